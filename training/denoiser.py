"""Trains text encoder and UNet together on the streaming task: a noisy picture and a prompt to the clean picture.

    python -m training.denoiser --runs runs --steps 6000

Input sqrt(abar_t) z_start + sqrt(1 - abar_t) epsilon, target z_target ("sample" prediction); start, target and prompt come from
`lessons`. Loss: smooth L1 of latents. Two steps in three are windows of 128 x 128 pixels, the third is 256 x 256, for
composition. With `--start` it starts from the result of `training.grow` or from a finished model. `training.refine` distils it
to few steps.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from pipelines.networks.cosine_autoencoder import CosineAutoencoder
from training import autoencoder, data, lessons
from training.lessons import DREAM, Dreams, Lessons, Mixture, Scenes
from training.loop import Average, Run, channels_last, mixed, optimise
from training.model import build_scheduler, build_text_encoder, build_tokenizer, build_unet, tokenize


@dataclass(frozen=True)
class DenoiserConfig:
    steps: int = 6000
    batch: int = 24  # windows per part; two parts
    side: int = 128  # pixels
    wide: int = 6  # whole pictures per part in every third step
    wide_side: int = 256
    groups: int = 6  # requests per part
    dreams: int = 6  # of wide_side per part
    awake: float = 0.2  # share of the dreams that start from less than noise alone
    coarse: float = 2.0  # dreams: weight of the means of 8 x 8 pixels; without it regression learns only colours and a horizon
    simple: int = 500  # number of first steps that use only first scenes by their bare names
    large: int = 4  # every how many steps the dreams have twice that side, and are as many as cost the same
    peak: float = 6e-4
    warmup: int = 300
    average: float = 0.998
    mixture: Mixture = field(default_factory=Mixture)
    scenes: int = 5000
    seed: int = 0


class Denoiser(nn.Module):
    """Text encoder and UNet as one module, so that one optimiser and one average serve both."""

    signal: Tensor  # sqrt(abar), (1000,)
    sigma: Tensor  # sqrt(1 - abar), (1000,)

    def __init__(self, latent_channels: int = 36, schedule: Tensor | None = None) -> None:
        """schedule: ᾱ, (1000,), where it is not that of `model.build_scheduler`."""
        super().__init__()
        self.tokenizer = build_tokenizer()
        self.text_encoder = build_text_encoder(self.tokenizer)
        self.unet = build_unet(latent_channels)
        abar = (build_scheduler().alphas_cumprod if schedule is None else schedule).float()
        self.register_buffer("signal", abar.sqrt(), persistent=False)
        self.register_buffer("sigma", (1 - abar).sqrt(), persistent=False)

    def noisy(self, z: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = sqrt(abar_t) z + sqrt(1 - abar_t) epsilon; z (N, C, h, w), t (N,) in 0..999."""
        a, s = self.signal[t].view(-1, 1, 1, 1), self.sigma[t].view(-1, 1, 1, 1)
        return a * z + s * noise

    def forward(self, x: Tensor, t: Tensor, prompts: list[str]) -> Tensor:
        """Predicted clean latents (N, C, h, w) in float32."""
        ids = tokenize(self.tokenizer, prompts).to(x.device)
        with mixed(x.device.type):
            embedding = self.text_encoder(ids).last_hidden_state
            out: Tensor = self.unet(x, t, embedding, return_dict=False)[0]
        return out.float()

    @torch.no_grad()
    def pooled(self, prompts: list[str]) -> Tensor:
        """One vector for every prompt, (N, 128) in float32, without gradients."""
        vectors: Tensor = self.text_encoder(tokenize(self.tokenizer, prompts).to(self.signal.device)).pooler_output
        return vectors


@torch.no_grad()
def encoded(vae: CosineAutoencoder, x: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) in [0, 1] to latents in float32."""
    x = x.to(vae.latent_mean).contiguous(memory_format=torch.channels_last) * 2 - 1
    latents: Tensor = vae.encode(x).latents
    return latents


def noised(model: Denoiser, vae: CosineAutoencoder, lesson: Lessons, rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Lessons as latents: (noisy start (N, C, h, w), timesteps (N,), the latents to be found)."""
    start, target = encoded(vae, torch.cat([lesson.start, lesson.target])).chunk(2)
    t = lesson.timesteps.to(target.device)
    x = model.noisy(start, t, torch.randn(start.shape, generator=rng).to(target))
    return x.contiguous(memory_format=torch.channels_last), t, target


def asleep(
    model: Denoiser, vae: CosineAutoencoder, dreams: Dreams, n: int, side: int, rng: Generator, awake: float = 0.0,
    simple: bool = False,
) -> tuple[Lessons, Tensor, Tensor]:  # fmt: skip
    """n dreams of side x side pixels: (lessons, their noisy latents (n, C, h, w), the latents to be found)."""
    lesson = dreams.batch(n, side, rng, awake, simple)
    target = encoded(vae, lesson.target)
    noise = torch.randn(target.shape, generator=rng).to(target)
    level = lesson.timesteps.to(target.device)
    x = torch.where((level == DREAM).view(-1, 1, 1, 1), noise, model.noisy(target, level, noise))
    return lesson, x.contiguous(memory_format=torch.channels_last), target


def block_means(vae: CosineAutoencoder) -> list[int]:
    """The latent channels that hold the means of 8 x 8 pixels, of the luma and of two colour differences."""
    luma, chroma = vae.config["luma_channels"], vae.config["chroma_channels"]
    return [0, luma, luma + chroma]


def train(
    config: DenoiserConfig, run: Run, store: np.ndarray, named: Scenes, dreams: Dreams, vae: CosineAutoencoder, *,
    start: dict[str, Tensor] | None = None, device: str = "cpu", stop_at: int | None = None, sheet: Any = None,
) -> Average:  # fmt: skip
    """Trains on pools of pictures and scenes, and on dreams, from the run's checkpoint, where there is one, else from `start`,
    else from nothing; returns the averaged weights.
    """
    torch.manual_seed(config.seed)
    model = Denoiser(vae.config["latent_channels"])
    if start is not None:
        model.load_state_dict(start)
    model = channels_last(model.to(device))
    vae = channels_last(vae.to(device)).eval().requires_grad_(False)
    means = block_means(vae)

    def loss(step: int, rng: Generator) -> tuple[Tensor, dict[str, float]]:
        n, side = (config.wide, config.wide_side) if step % 3 == 2 else (config.batch, config.side)
        lesson = lessons.batch(store, named, n, side, min(n, config.groups), config.mixture, rng)
        x, t, target = noised(model, vae, lesson, rng)
        z = model(x, t, lesson.prompts)
        value = F.smooth_l1_loss(z, target, beta=0.5)
        if not config.dreams:
            return value, {}
        simple = step < config.simple
        large = step % config.large == config.large - 1
        n, side = (max(1, config.dreams // 4), 2 * config.wide_side) if large else (config.dreams, config.wide_side)
        lesson, x, target = asleep(model, vae, dreams, n, side, rng, config.awake, simple)
        z = model(x, lesson.timesteps.to(device), lesson.prompts)
        coarse = F.l1_loss(z[:, means], target[:, means])
        dreamt = F.smooth_l1_loss(z, target, beta=0.5) + config.coarse * coarse
        return value + dreamt, {"awake": value.item(), "dreamt": dreamt.item(), "coarse": coarse.item()}

    return optimise(
        run, model, loss, seed=config.seed, steps=config.steps, peak=config.peak, warmup=config.warmup,
        average=config.average, stop_at=stop_at, sheet=sheet, save_every=250,
    )  # fmt: skip


def run_stage(
    runs: Path, config: DenoiserConfig, *, start: dict[str, Tensor] | None = None, device: str = "cpu", stop_at: int | None = None
) -> None:
    """Makes the scenes where they are missing and trains in `runs/denoiser`, with sheets."""
    from training.sheet import write_sheet

    vae = autoencoder.read(runs / "autoencoder").eval().requires_grad_(False)
    store = np.load(runs / "sources.npy", mmap_mode="r")
    named = lessons.scene_pool(runs / "scenes.npy", config.scenes, config.seed)
    dreams = lessons.dreams(runs / "dreams.npy")
    run = Run(runs / "denoiser")

    def sheet(model: Any, step: int) -> None:
        write_sheet(run.folder / f"sheet_{step:06d}.jpg", model, vae, strengths=(0.5,), side=256, names=("astronaut", "tower"))

    train(config, run, store, named, dreams, vae, start=start, device=device, stop_at=stop_at, sheet=sheet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for everything that training writes")
    parser.add_argument("--steps", type=int, default=DenoiserConfig.steps)
    parser.add_argument("--batch", type=int, default=DenoiserConfig.batch, help="windows in each of a step's two parts")
    parser.add_argument("--peak", type=float, default=DenoiserConfig.peak, help="highest learning rate")
    parser.add_argument("--start", type=Path, help="weights to start from, as training.grow writes them")
    parser.add_argument("--scenes", type=int, default=DenoiserConfig.scenes, help="size of the pool of scenes")
    parser.add_argument("--scene", type=float, default=Mixture.scene, help="share of scenes among the lessons")
    parser.add_argument("--dreams", type=int, default=DenoiserConfig.dreams, help="dreams in each of a step's two parts")
    parser.add_argument("--simple", type=int, default=DenoiserConfig.simple, help="steps of simple dreams at the beginning")
    parser.add_argument("--stop-at", type=int, help="stop at this step with a checkpoint; run again to go on")
    parser.add_argument("--pictures", type=int, default=3000, help="size of the pool of source pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)  # see training.loop
    torch.set_flush_denormal(True)
    config = DenoiserConfig(
        steps=args.steps, batch=args.batch, wide=max(1, args.batch // 4), peak=args.peak, warmup=min(300, args.steps // 40),
        scenes=args.scenes, dreams=args.dreams, simple=args.simple, mixture=Mixture(scene=args.scene), seed=args.seed,
    )  # fmt: skip
    data.pool(args.runs / "sources.npy", args.pictures, args.seed)
    start = torch.load(args.start, weights_only=True) if args.start else None
    run_stage(args.runs, config, start=start, device=args.device, stop_at=args.stop_at)


if __name__ == "__main__":
    main()
