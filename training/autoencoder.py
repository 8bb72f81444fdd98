"""Trains the autoencoder on source pictures and on their looks, which the decoder has to draw.

    python -m training.autoencoder --runs runs --steps 3000

Loss: L1 at four scales, L1 of finite differences, L2; small noise on the latents makes decoding robust to the
denoiser's errors. After the last step the latents' mean and deviation per channel are measured and stored in the module.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from pipelines.autoencoder import PocketAutoencoder
from training import data, photographs
from training.looks import LOOKS
from training.loop import Average, Run, channels_last, optimise
from training.pictures import save_rows

SHAPE: dict[str, Any] = {"latent_channels": 32, "shortcut": True}
"""What is trained; the class's own defaults are those of the first version of the weights."""


@dataclass(frozen=True)
class AutoencoderConfig:
    steps: int = 3000
    batch: int = 8  # per part; two parts
    side: int = 128
    peak: float = 1e-3
    warmup: int = 200
    average: float = 0.998
    latent_noise: float = 0.05  # standard deviation, against latents of about 1
    seed: int = 0


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


def reconstruct(model: PocketAutoencoder, x: Tensor, noise: float, rng: Generator) -> Tensor:
    """Round trip of pictures in [-1, 1] with noise on the latents, in bfloat16 where autocast allows."""
    with torch.autocast(x.device.type, dtype=torch.bfloat16, cache_enabled=False):
        z = model.encode(x).latents
        z = z + noise * torch.randn(z.shape, generator=rng).to(z)
        picture: Tensor = model.decode(z, return_dict=False)[0]
    return picture.float()


@torch.no_grad()
def psnr(model: nn.Module, picture: Tensor) -> float:
    """PSNR in dB of the round trip of (1, 3, H, W) in [0, 1], sides cut to multiples of 8, rounded to bytes."""
    height, width = (side // 8 * 8 for side in picture.shape[-2:])
    x = picture[..., :height, :width]
    y = (model(x * 2 - 1).clamp(-1, 1) * 127.5 + 127.5).round() / 255
    return float(-10 * torch.log10(F.mse_loss(y, x)))


@torch.no_grad()
def measure_latents(model: PocketAutoencoder, store: np.ndarray, seed: int, batches: int = 24) -> None:
    """Sets `latent_mean` and `latent_std` from pictures and looks of the pool."""
    model.latent_mean.zero_()
    model.latent_std.fill_(1)
    latents = []
    for k in range(batches):
        rng = Generator().manual_seed(seed + 77_000 + k)
        x = with_looks(data.batch(store, 16, min(128, store.shape[-1]), rng), rng)
        latents.append(model.encode(x.to(model.latent_mean) * 2 - 1).latents)
    z = torch.cat(latents)
    model.latent_mean.copy_(z.mean((0, 2, 3), keepdim=True))
    model.latent_std.copy_(z.std((0, 2, 3), keepdim=True))


def train(config: AutoencoderConfig, run: Run, store: np.ndarray, device: str = "cpu", stop_at: int | None = None) -> Average:
    """Trains from the run's checkpoint, where there is one; returns the averaged weights."""
    torch.manual_seed(config.seed)
    model = channels_last(PocketAutoencoder(**SHAPE).to(device))
    measure_latents(model, store, config.seed)  # so that the noise is one share of every channel, fine detail included

    def loss(step: int, rng: Generator) -> tuple[Tensor, dict[str, float]]:
        x = with_looks(data.batch(store, config.batch, config.side, rng).to(device), rng) * 2 - 1
        x = x.contiguous(memory_format=torch.channels_last)
        return picture_loss(reconstruct(model, x, config.latent_noise, rng), x), {}

    def sheet(module: nn.Module, step: int) -> None:
        pictures = {k: v for k, v in photographs.held_out().items() if min(v.shape[-2:]) >= 300}
        run.log(step=step, **{f"psnr_{name}": round(psnr(module, x.to(device)), 2) for name, x in pictures.items()})
        x = torch.cat([photographs.square(p, 256) for p in pictures.values()])
        with torch.no_grad():
            save_rows(run.folder / f"sheet_{step:06d}.png", [x, module(x.to(device) * 2 - 1).cpu() / 2 + 0.5])

    return optimise(
        run, model, loss, seed=config.seed, steps=config.steps, peak=config.peak, warmup=config.warmup,
        average=config.average, sheet=sheet, stop_at=stop_at,
    )  # fmt: skip


def finish(average: Average, store: np.ndarray, folder: Path, seed: int) -> PocketAutoencoder:
    """Writes the averaged autoencoder with its latent statistics to `folder` in float32 and returns it."""
    model = PocketAutoencoder(**SHAPE)
    average.copy_to(model)
    measure_latents(model, store, seed)
    model.save_pretrained(folder)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for everything that training writes")
    parser.add_argument("--pictures", type=int, default=3000, help="size of the pool of source pictures")
    parser.add_argument("--steps", type=int, default=AutoencoderConfig.steps)
    parser.add_argument("--stop-at", type=int, help="stop at this step with a checkpoint; run again to go on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)  # see training.loop
    torch.set_flush_denormal(True)
    store = data.pool(args.runs / "sources.npy", args.pictures, args.seed)
    config = AutoencoderConfig(steps=args.steps, seed=args.seed)
    average = train(config, Run(args.runs / "autoencoder"), store, args.device, args.stop_at)
    finish(average, store, args.runs / "autoencoder" / "final", args.seed)


if __name__ == "__main__":
    main()
