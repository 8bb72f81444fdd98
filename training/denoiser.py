"""Trains text encoder and UNet together on the streaming task: a noisy source and a prompt to the clean look of the source.

    python -m training.denoiser --runs runs --steps 2200

Input sqrt(abar_t) z_source + sqrt(1 - abar_t) epsilon, target z_look ("sample" prediction), smooth L1, windows of 128 x 128
pixels. An empty prompt (one in ten) has the source itself as its target, so look minus empty prompt is the direction that
guidance extrapolates. `training.refine` goes on from here with decoded pictures.
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
from training import latents, words
from training.loop import Average, Run, channels_last, optimise
from training.model import build_scheduler, build_text_encoder, build_tokenizer, build_unet, tokenize
from training.teacher import Request


@dataclass(frozen=True)
class DenoiserConfig:
    steps: int = 2200
    batch: int = 32  # per part; two parts
    side: int = 16  # latents
    peak: float = 6e-4
    warmup: int = 300
    average: float = 0.998
    dropped: float = 0.1  # share of empty prompts
    focus: tuple[int, int] = (50, 750)  # timesteps that strengths 0.05 to 0.75 use
    focused: float = 0.75  # share of samples drawn from `focus`, the rest from 0..999
    seed: int = 0


class Denoiser(nn.Module):
    """Text encoder and UNet as one module, so that one optimiser and one average serve both."""

    signal: Tensor  # sqrt(abar), (1000,)
    sigma: Tensor  # sqrt(1 - abar), (1000,)

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = build_tokenizer()
        self.text_encoder = build_text_encoder(self.tokenizer)
        self.unet = build_unet()
        abar = build_scheduler().alphas_cumprod.float()
        self.register_buffer("signal", abar.sqrt(), persistent=False)
        self.register_buffer("sigma", (1 - abar).sqrt(), persistent=False)

    def noisy(self, z: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = sqrt(abar_t) z + sqrt(1 - abar_t) epsilon; z (N, 16, h, w), t (N,) in 0..999."""
        a, s = self.signal[t].view(-1, 1, 1, 1), self.sigma[t].view(-1, 1, 1, 1)
        return a * z + s * noise

    def forward(self, x: Tensor, t: Tensor, prompts: list[str]) -> Tensor:
        """Predicted clean latents (N, 16, h, w) in float32."""
        ids = tokenize(self.tokenizer, prompts).to(x.device)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, cache_enabled=False):
            embedding = self.text_encoder(ids).last_hidden_state
            out: Tensor = self.unet(x, t, embedding, return_dict=False)[0]
        return out.float()


def draw_looks(n: int, dropped: float, groups: int, rng: Generator) -> tuple[list[int], list[str]]:
    """Look index and prompt per row; rows come in `groups` runs of one look. A dropped prompt has look 0, the source."""
    picks = torch.randint(0, len(latents.NAMES), (groups,), generator=rng).tolist()
    looks = [picks[row * groups // n] for row in range(n)]
    prompts = [words.caption(Request(latents.NAMES[look]), rng) for look in looks]
    for row in (torch.rand(n, generator=rng) < dropped).nonzero().flatten().tolist():
        looks[row], prompts[row] = 0, ""
    return looks, prompts


def draw_timesteps(focus: tuple[int, int], focused: float, n: int, rng: Generator) -> Tensor:
    """(n,) timesteps, a share `focused` of them in `focus`, the rest in 0..999."""
    wide = torch.randint(0, 1000, (n,), generator=rng)
    narrow = torch.randint(focus[0], focus[1] + 1, (n,), generator=rng)
    return torch.where(torch.rand(n, generator=rng) < focused, narrow, wide)


def train(
    config: DenoiserConfig, run: Run, store: np.ndarray, *, device: str = "cpu", stop_at: int | None = None, sheet: Any = None
) -> Average:  # fmt: skip
    """Trains on a store of latents from the run's checkpoint, where there is one; returns the averaged weights."""
    torch.manual_seed(config.seed)
    model = channels_last(Denoiser().to(device))

    def loss(step: int, rng: Generator) -> tuple[Tensor, dict[str, float]]:
        looks, prompts = draw_looks(config.batch, config.dropped, config.batch, rng)
        source, target = latents.batch(store, config.batch, config.side, looks, rng)
        t = draw_timesteps(config.focus, config.focused, config.batch, rng).to(device)
        noise = torch.randn(source.shape, generator=rng)
        x = model.noisy(source.to(device), t, noise.to(device)).contiguous(memory_format=torch.channels_last)
        return F.smooth_l1_loss(model(x, t, prompts), target.to(device), beta=0.5), {}

    return optimise(
        run, model, loss, seed=config.seed, steps=config.steps, peak=config.peak, warmup=config.warmup,
        average=config.average, stop_at=stop_at, sheet=sheet, save_every=250,
    )  # fmt: skip


def run_stage(
    runs: Path, config: DenoiserConfig, *, pictures: int = 900, device: str = "cpu", stop_at: int | None = None
) -> None:  # fmt: skip
    """Makes the latents of `pictures` pictures where missing and trains in `runs/denoiser_latents`, with sheets."""
    from training.sheet import write_sheet

    vae = PocketAutoencoder.from_pretrained(runs / "autoencoder" / "final").eval().requires_grad_(False)
    sources = np.load(runs / "sources.npy", mmap_mode="r")
    store = latents.store(runs / "latents.npy", vae, sources, min(pictures, len(sources)), device)
    run = Run(runs / "denoiser_latents")

    def sheet(model: Any, step: int) -> None:
        write_sheet(run.folder / f"sheet_{step:06d}.jpg", model, vae, strengths=(0.5,), side=256, names=("astronaut", "tower"))

    train(config, run, store, device=device, stop_at=stop_at, sheet=sheet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for everything that training writes")
    parser.add_argument("--steps", type=int, default=DenoiserConfig.steps)
    parser.add_argument("--stop-at", type=int, help="stop at this step with a checkpoint; run again to go on")
    parser.add_argument("--pictures", type=int, default=900, help="how many pictures of the pool get latents")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)  # see training.loop
    torch.set_flush_denormal(True)
    config = DenoiserConfig(steps=args.steps, seed=args.seed)
    run_stage(args.runs, config, pictures=args.pictures, device=args.device, stop_at=args.stop_at)


if __name__ == "__main__":
    main()
