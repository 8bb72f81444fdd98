"""Fits the autoencoder's latent statistics to the pool of pictures, and defines the loss between pictures.

    python -m training.autoencoder --runs runs

The encoder is fixed (a cosine transform); its latents' mean and deviation are measured here. The decoder starts as the inverse
transform. `training.refine` trains its additional network, from true latents and from the denoiser's.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from pipelines.networks.cosine_autoencoder import CosineAutoencoder
from training import data
from training.looks import LOOKS

LOUDNESS = 0.25
"""A channel's deviation d becomes proportional to d to this power. Coarse frequencies stay above the noise longer than fine ones,
so flat areas do not become cloudy."""
MEANS, SLOPES, TINTS = (2.5, 3.0), 1.4, 1.5
"""Further factors: for the means of 8 x 8 pixels of luma and of chroma, luma's two slowest waves, chroma's waves. Without them
noise leaves less than half of a mean's deviation at strength 0.6, and a small network makes blotches of it."""


def read(folder: Path) -> CosineAutoencoder:
    """The autoencoder in `folder`, in float32."""
    model: CosineAutoencoder = CosineAutoencoder.from_pretrained(folder, torch_dtype=torch.float32)
    return model


def with_looks(x: Tensor, rng: Generator, share: float = 0.5) -> Tensor:
    """Replaces the last `share` of the batch by looks of it, two different ones."""
    kept = x.shape[0] - int(x.shape[0] * share)
    names = list(LOOKS)
    parts = [x[:kept]]
    for part in x[kept:].chunk(2):
        parts.append(LOOKS[names[int(torch.randint(1, len(names), (), generator=rng))]](part))
    return torch.cat(parts)


def differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """Finite differences along height and width."""
    return x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]


def picture_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 at full, half, quarter and eighth size, plus L1 of finite differences and L2 at full size; pictures in [-1, 1]."""
    total = F.l1_loss(output, target) + 5.0 * F.mse_loss(output, target)
    for a, b in zip(differences(output), differences(target), strict=True):
        total = total + 0.5 * F.l1_loss(a, b)
    for _ in range(3):
        output, target = F.avg_pool2d(output, 2), F.avg_pool2d(target, 2)
        total = total + 0.5 * F.l1_loss(output, target)
    return total


@torch.no_grad()
def psnr(model: nn.Module, picture: Tensor) -> float:
    """PSNR in dB of the round trip of (1, 3, H, W) in [0, 1], sides cut to multiples of 8, rounded to bytes."""
    height, width = (side // 8 * 8 for side in picture.shape[-2:])
    x = picture[..., :height, :width]
    y = (model(x * 2 - 1).clamp(-1, 1) * 127.5 + 127.5).round() / 255
    return float(-10 * torch.log10(F.mse_loss(y, x)))


def round_trips(model: CosineAutoencoder, pictures: Mapping[str, Tensor], smallest: int) -> dict[str, float]:
    """PSNR in dB of each picture (1, 3, H, W) whose shorter side has at least `smallest` pixels."""
    found = {name: x for name, x in pictures.items() if min(x.shape[-2:]) >= smallest}
    return {name: round(psnr(model, x.to(model.latent_mean)), 2) for name, x in found.items()}


def gain(model: CosineAutoencoder) -> Tensor:
    """The scale of each latent channel relative to unit deviation, (1, C, 1, 1)."""
    luma, chroma = model.config["luma_channels"], model.config["chroma_channels"]
    found = torch.ones(luma + 2 * chroma)
    found[0], found[1:3], found[luma:] = MEANS[0], SLOPES, TINTS
    found[[luma, luma + chroma]] = MEANS[1]
    return found.view(1, -1, 1, 1)


@torch.no_grad()
def measure_latents(model: CosineAutoencoder, store: np.ndarray, seed: int, batches: int = 24) -> None:
    """Sets `latent_mean` and `latent_std` from pictures and looks of the pool: zero mean, and unit variance over all channels but
    for their `gain`.
    """
    model.latent_mean.zero_()
    model.latent_std.fill_(1)
    latents = []
    for k in range(batches):
        rng = Generator().manual_seed(seed + 77_000 + k)
        x = with_looks(data.batch(store, 16, min(128, store.shape[-1]), rng), rng)
        latents.append(model.encode(x.to(model.latent_mean) * 2 - 1).latents)
    z = torch.cat(latents)
    model.latent_mean.copy_(z.mean((0, 2, 3), keepdim=True))
    deviation = z.std((0, 2, 3), keepdim=True)
    loud = deviation**LOUDNESS
    model.latent_std.copy_(deviation / loud * loud.square().mean().sqrt() / gain(model))


def make(store: np.ndarray, folder: Path, seed: int) -> CosineAutoencoder:
    """Writes the autoencoder with its latent statistics to `folder` in float32 and returns it."""
    torch.manual_seed(seed)
    model = CosineAutoencoder()
    measure_latents(model, store, seed)
    model.save_pretrained(folder)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for everything that training writes")
    parser.add_argument("--pictures", type=int, default=3000, help="size of the pool of source pictures")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)  # see training.loop
    torch.set_flush_denormal(True)
    make(data.pool(args.runs / "sources.npy", args.pictures, args.seed), args.runs / "autoencoder", args.seed)


if __name__ == "__main__":
    main()
