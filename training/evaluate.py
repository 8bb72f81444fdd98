"""Figures on photographs that the model was not trained on; the last line of output is one JSON object.

    python -m training.evaluate --weights assets/pocket

Autoencoder: PSNR of the round trip. Looks: SSIM (on luma) and colour-histogram distance of one step against the procedural
teacher, per strength; `identity` is the same figure for the unchanged source, which a look must beat to mean anything.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from pipelines.autoencoder import PocketAutoencoder
from training import filters, photographs, words
from training.autoencoder import psnr
from training.denoiser import Denoiser
from training.looks import LOOKS
from training.sheet import paint


def ssim(a: Tensor, b: Tensor) -> float:
    """Mean SSIM of luma (Wang et al. 2004), Gaussian window of sigma 1.5, pictures (N, 3, H, W) in [0, 1]."""
    x, y = filters.luminance(a), filters.luminance(b)
    mx, my = filters.blur(x, 1.5), filters.blur(y, 1.5)
    vx, vy = filters.blur(x * x, 1.5) - mx * mx, filters.blur(y * y, 1.5) - my * my
    covariance = filters.blur(x * y, 1.5) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return float(((2 * mx * my + c1) * (2 * covariance + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean())


def histogram(x: Tensor, bins: int = 8) -> Tensor:
    """Share of pixels per cell of a bins^3 RGB cube, (bins^3,)."""
    index = (x.clamp(0, 1) * (bins - 1e-4)).long()
    flat = (index[:, 0] * bins + index[:, 1]) * bins + index[:, 2]
    return torch.bincount(flat.flatten(), minlength=bins**3).float() / flat.numel()


def histogram_distance(a: Tensor, b: Tensor) -> float:
    """Half the L1 distance of colour histograms: 0 for equal, 1 for disjoint."""
    return float(0.5 * (histogram(a) - histogram(b)).abs().sum())


def evaluate_autoencoder(vae: PocketAutoencoder, smallest: int = 300) -> dict[str, float]:
    """PSNR in dB per held-out picture whose shorter side has at least `smallest` pixels, at native size."""
    pictures = {k: v for k, v in photographs.held_out().items() if min(v.shape[-2:]) >= smallest}
    return {name: round(psnr(vae, x.to(vae.latent_mean)), 2) for name, x in pictures.items()}


def evaluate_looks(
    model: Denoiser, vae: PocketAutoencoder, strengths: tuple[float, ...], side: int, names: tuple[str, ...]
) -> dict[str, dict[str, float]]:
    """Per look: mean over pictures of `ssim@s` and `colour@s` for each strength s, and of the same for the source."""
    held = photographs.held_out()
    pictures = [photographs.square(held[name], side) for name in names if name in held]
    table: dict[str, dict[str, float]] = {}
    for look, teacher in LOOKS.items():
        sums: dict[str, float] = {}
        for x in pictures:
            target = teacher(x)
            outputs = {f"@{s}": paint(model, vae, x, [words.NAMES[look][0]], s) for s in strengths}
            for key, y in (outputs | {"@identity": x}).items():
                sums["ssim" + key] = sums.get("ssim" + key, 0.0) + ssim(y, target) / len(pictures)
                sums["colour" + key] = sums.get("colour" + key, 0.0) + histogram_distance(y, target) / len(pictures)
        table[look] = {key: round(value, 3) for key, value in sums.items()}
    return table


def markdown(table: dict[str, dict[str, float]]) -> str:
    """The looks' table as Markdown."""
    keys = list(next(iter(table.values())))
    lines = ["| look | " + " | ".join(keys) + " |", "|---" * (len(keys) + 1) + "|"]
    lines += [f"| {look} | " + " | ".join(f"{row[key]:.2f}" for key in keys) + " |" for look, row in table.items()]
    return "\n".join(lines)


def main() -> None:
    from training.export import load, weight_bytes

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("assets/pocket"), help="a folder that training.export wrote")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.3, 0.5, 0.7])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--names", nargs="+", default=["astronaut", "coffee", "chelsea", "tower", "lion", "cheetah2"])
    args = parser.parse_args()
    torch.set_num_threads(1)  # see training.loop
    torch.set_flush_denormal(True)
    model, vae = load(args.weights)
    rounds = evaluate_autoencoder(vae)
    table = evaluate_looks(model, vae, tuple(args.strengths), args.side, tuple(args.names))
    print(markdown(table))
    mean = {key: round(sum(row[key] for row in table.values()) / len(table), 3) for key in next(iter(table.values()))}
    figures = {"weight_bytes": weight_bytes(args.weights), "autoencoder_psnr": rounds, "looks_mean": mean, "looks": table}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
