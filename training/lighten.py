"""Makes the autoencoder of a finished model cheaper.

    python -m training.lighten --runs runs --weights assets/pocket

Leaves out residual blocks and teaches the rest to do without them. The latents stay as they were, and so does the denoiser: the
encoder learns the old one's latents; the decoder learns the photograph from true latents, and the old decoder's picture from the
denoiser's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from pipelines import vocabulary
from pipelines.autoencoder import PocketAutoencoder
from training import data, export
from training.autoencoder import picture_loss, psnr, with_looks
from training.denoiser import Denoiser
from training.loop import Average, Run, averaged, channels_last, optimise
from training.photographs import held_out
from training.refine import energy_loss

SIDE = 128
LATENTS_WEIGHT = 4.0
LIGHT = ((1, 1), (1, 1))
"""Residual blocks of encoder and decoder, each at a quarter and at an eighth of the picture's size."""


def lightened(vae: PocketAutoencoder, encoder_blocks: Sequence[int], decoder_blocks: Sequence[int]) -> PocketAutoencoder:
    """The same autoencoder with only the first so many residual blocks of every stage. ValueError for more than it has."""
    for name, wanted in (("encoder_blocks", encoder_blocks), ("decoder_blocks", decoder_blocks)):
        if any(fewer > given for fewer, given in zip(wanted, vae.config[name], strict=True)):
            raise ValueError(f"{name} is {tuple(wanted)}; at most {tuple(vae.config[name])} can be kept")
    blocks = {"encoder_blocks": list(encoder_blocks), "decoder_blocks": list(decoder_blocks)}
    light = PocketAutoencoder.from_config({**vae.config, **blocks})
    kept = vae.state_dict()
    light.load_state_dict({name: kept[name] for name in light.state_dict()})
    return light


class Lesson:
    """The loss of a lighter autoencoder beside the model that it is to serve."""

    def __init__(
        self, light: PocketAutoencoder, model: Denoiser, vae: PocketAutoencoder, prompts: Sequence[str], batch: int
    ) -> None:
        self.light, self.model, self.vae, self.prompts, self.batch = light, model.eval(), vae.eval(), prompts, batch

    def painted(self, z: Tensor, rng: Generator) -> Tensor:
        """The denoiser's latents from noisy `z` (N, C, h, w), one prompt and one timestep a row."""
        t = torch.randint(150, 750, (z.shape[0],), generator=rng)
        chosen = torch.randint(0, len(self.prompts), (z.shape[0],), generator=rng).tolist()
        x = self.model.noisy(z, t, torch.randn(z.shape, generator=rng))
        return self.model(x.contiguous(memory_format=torch.channels_last), t, [self.prompts[k] for k in chosen])

    def loss(self, x: Tensor, rng: Generator) -> tuple[Tensor, dict[str, float]]:
        """Of pictures (N, 3, S, S) in [-1, 1]; half of their latents are painted."""
        half = x.shape[0] // 2
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
            z = self.vae.encode(x).latents.float()
            painted = self.painted(z[:half], rng).float()
            targets = torch.cat([self.vae.decode(painted, return_dict=False)[0].float(), x[half:]])
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
            own = self.light.encode(x).latents.float()
            # What goes through the whole of it is decoded from its own latents, as the studio does.
            pictures = self.light.decode(torch.cat([painted, own[half:]]), return_dict=False)[0].float()
        in_latents = F.mse_loss(own, z)
        in_pictures = picture_loss(pictures, targets) + 0.5 * energy_loss(pictures, targets)
        return in_pictures + LATENTS_WEIGHT * in_latents, {"latent": in_latents.item(), "picture": in_pictures.item()}


def train(run: Run, lesson: Lesson, store: np.ndarray, steps: int, seed: int, side: int = SIDE, save_every: int = 250) -> Average:
    """Trains on windows of `side` pixels, from the run's checkpoint where there is one."""

    def loss(step: int, rng: Generator) -> tuple[Tensor, dict[str, float]]:
        x = with_looks(data.batch(store, lesson.batch, side, rng), rng)
        x = x[torch.randperm(x.shape[0], generator=rng)]
        return lesson.loss((x * 2 - 1).contiguous(memory_format=torch.channels_last), rng)

    def report(light: nn.Module, step: int) -> None:
        figures = {name: psnr(light, picture) for name, picture in held_out().items()}
        run.log(step=step, psnr=sum(figures.values()) / len(figures), worst=min(figures.values()))

    return optimise(
        run, lesson.light, loss, seed=seed, steps=steps, peak=1e-3, warmup=50, average=0.995, save_every=save_every, sheet=report
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for everything that training writes")
    parser.add_argument("--weights", type=Path, default=Path("assets/pocket"), help="the finished model, which is left as it is")
    parser.add_argument("--pictures", type=int, default=3000, help="size of the pool of source pictures")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=8, help="pictures in each of a step's two parts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="folder of the lighter autoencoder (default: RUNS/light/vae)")
    args = parser.parse_args()
    torch.set_num_threads(1)  # see training.loop
    torch.set_flush_denormal(True)
    model, vae = export.load(args.weights)
    if not isinstance(vae, PocketAutoencoder):
        parser.error(f"--weights: {args.weights} has no PocketAutoencoder")
    prompts = [look["prompt"] for look in json.loads((args.weights / vocabulary.FILE).read_text())["looks"]]
    run = Run(args.runs / "light")
    light = channels_last(lightened(vae, *LIGHT).train())
    store = data.pool(args.runs / "sources.npy", args.pictures, args.seed)
    train(run, Lesson(light, model, vae, prompts, args.batch), store, args.steps, args.seed)
    finished = averaged(run, lightened(vae, *LIGHT))
    torch.nn.Module.to(finished, torch.float16).save_pretrained(args.output or run.folder / "vae")


if __name__ == "__main__":
    main()
