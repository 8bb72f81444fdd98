"""Fine-tunes denoiser and decoder by regression on real photographs: the last stage of the pocket model.

    python -m training.finetune --runs runs --weights assets/pocket --hours 1
    python -m training.finetune --output assets/pocket      # writes UNet and autoencoder of the run

The reason: `training.refine` trains against a critic and for the strength of detail. That pays for whatever looks like detail, so
even areas had a weave at the latent's 8 pixels and blotches of colour, and everything painted on top inherited them. Here photo
is the photograph, looks are their teacher's pictures, and latents and pixels are compared as such: by absolute differences, since
squares hardly count what is small and everywhere. Statistics of published features (HED) were tried and brought the grain back.
Scenes from a prompt alone are held where they are: their target is what the finished model predicts. It needs the sources of
`python -m training painter sources`.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from pipelines.networks import latent_gate
from pipelines.networks.cosine_autoencoder import CosineAutoencoder
from pipelines.networks.position_bias import NAME
from pipelines.values.vocabulary import read_vocabulary
from training import lessons, words
from training.autoencoder import picture_loss
from training.denoiser import Denoiser, asleep, block_means, encoded
from training.export import export, load
from training.lessons import Dreams
from training.looks import LOOKS
from training.loop import Run, averaged, channels_last, mixed, optimise
from training.painter import crops, sources
from training.refine import carried_on
from training.teacher import Request, draw, teacher


@dataclass(frozen=True)
class Config:
    """steps; channels of the decoder at an eighth of the size; rows of each kind in a part of a batch; side of a row in pixels;
    timesteps of photographs; learning rate at its highest."""

    steps: int = 1900
    width: int = 64
    looks: int = 4
    plain: int = 1  # true latents, so that the round trip stays as good
    dreams: int = 1
    side: int = 224
    levels: tuple[int, int] = (10, 850)
    carried: tuple[float, ...] = (0.4, 0.5, 0.5)  # as in `training.refine`
    peak: float = 6e-4
    warmup: int = 50
    average: float = 0.995
    photographs: float = 0.6  # share of the looks' rows that are plain photographs
    latents: float = 4.0  # weight of latents compared as such
    blotches: float = 1.0  # weight of the means of 8 pixels and more
    seed: int = 0


@torch.no_grad()
def narrowed(vae: CosineAutoencoder, width: int) -> CosineAutoencoder:
    """The autoencoder with so many channels at an eighth of the size: those kept whose weights, in and out, are largest.

    ValueError if it has fewer, or more than one block there.
    """
    quarter, eighth = vae.config["decoder_channels"]
    if width > eighth or vae.config["decoder_blocks"][1] != 1:
        raise ValueError(f"width is {width}, allowed: up to {eighth}, with one block at an eighth of the size")
    made = CosineAutoencoder.from_config({**vae.config, "decoder_channels": (quarter, width)})
    old = vae.decoder
    block: Any = old.eighth[0]

    def largest(source: nn.Conv2d, sink: nn.Conv2d) -> Tensor:
        size = source.weight.square().sum((1, 2, 3)).sqrt() * sink.weight.square().sum((0, 2, 3)).sqrt()
        return size.topk(width).indices.sort().values

    stream, inner = largest(old.conv_in, old.up), largest(block.conv1, block.conv2)
    state = vae.state_dict()
    module: Any
    for name, module, rows, columns in (
        ("conv_in", old.conv_in, stream, None), ("eighth.0.conv1", block.conv1, inner, stream),
        ("eighth.0.conv2", block.conv2, stream, inner), ("up", old.up, None, stream),
    ):  # fmt: skip
        weight, bias = module.weight, module.bias
        if rows is not None:
            weight, bias = weight[rows], bias[rows]
        state[f"decoder.{name}.weight"] = weight if columns is None else weight[:, columns]
        state[f"decoder.{name}.bias"] = bias
    made.load_state_dict(state)
    return made


class Rows(NamedTuple):
    """Predicted latents and true ones (N, C, h, w), and the pictures (N, 3, 8h, 8w) in [-1, 1] that they should become."""

    found: Tensor
    latents: Tensor
    pictures: Tensor


class Model(nn.Module):
    """Denoiser and autoencoder as one module; text encoder, encoder and biases of positions are frozen."""

    def __init__(self, denoiser: Denoiser, vae: CosineAutoencoder) -> None:
        super().__init__()
        self.denoiser, self.vae = denoiser, vae
        self.requires_grad_(False)
        for part in (denoiser.unet, vae.decoder, vae.synthesis):
            part.requires_grad_(True)
        for name, parameter in denoiser.unet.named_parameters():
            if name.endswith(NAME):
                parameter.requires_grad_(False)


class Finetuning:
    """The loss of one part of a batch; a function of step and generator."""

    def __init__(
        self, config: Config, model: Model, photographs: Sequence[crops.Photograph], dreams: Dreams, looks: Sequence[str]
    ) -> None:
        """looks: those that the denoiser draws, names of `training.looks.LOOKS`."""
        self.config, self.model = config, model
        self.photographs, self.dreams, self.looks = photographs, dreams, tuple(looks)
        self.means = block_means(model.vae)
        self.finished = copy.deepcopy(model.denoiser).requires_grad_(False).eval()

    def loss(self, step: int, rng: Generator) -> tuple[Tensor, dict[str, float]]:
        config, vae = self.config, self.model.vae
        drawn = np.random.default_rng(int(torch.randint(2**31, (), generator=rng)))
        looks, plain = self._looks(drawn, rng), self._plain(drawn)
        found, latents, pictures = (torch.cat(part) for part in zip(looks, plain, strict=True))
        with mixed("cpu"):
            made = vae.decode(found.contiguous(memory_format=torch.channels_last), return_dict=False)[0].float()
        parts = {
            "pixels": picture_loss(made, pictures),
            "latents": config.latents * F.smooth_l1_loss(found, latents, beta=0.1),
            "blotches": config.blotches * self._blotches(found, latents),
        }
        if step % 2:
            parts["dreams"] = 2 * config.latents * self._dreams(rng)
        return torch.stack(list(parts.values())).sum(), {name: value.item() for name, value in parts.items()}

    def _photographs(self, count: int, rng: np.random.Generator) -> Tensor:
        """(N, 3, S, S) in [0, 1]"""
        chosen = [self.photographs[k] for k in rng.integers(0, len(self.photographs), count)]
        return crops.tensor([crops.window(one, self.config.side, rng, degraded=False) for one in chosen]) / 2 + 0.5

    def _looks(self, drawn: np.random.Generator, rng: Generator) -> Rows:
        """Photographs to the looks' teachers, after one to four of the denoiser's steps."""
        config, denoiser = self.config, self.model.denoiser
        x = self._photographs(config.looks, drawn)
        plain = (torch.rand(config.looks, generator=rng) < config.photographs).tolist()
        requests = [Request() if photo else draw(rng, self.looks) for photo in plain]
        target = torch.cat([teacher(row[None], request) for row, request in zip(x, requests, strict=True)])
        empty = (torch.rand(config.looks, generator=rng) < 0.1).tolist()
        prompts = ["" if p and e else words.caption(r, rng) for p, e, r in zip(plain, empty, requests, strict=True)]
        z, wanted = encoded(self.model.vae, torch.cat([x, target])).chunk(2)
        t = torch.randint(*config.levels, (len(z),), generator=rng)
        noisy = denoiser.noisy(z, t, torch.randn(z.shape, generator=rng))
        noisy, t, _ = carried_on(denoiser, noisy, t, prompts, config.carried, rng)
        return Rows(denoiser(noisy.contiguous(memory_format=torch.channels_last), t, prompts), wanted, target * 2 - 1)

    def _plain(self, drawn: np.random.Generator) -> Rows:
        x = self._photographs(self.config.plain, drawn)
        z = encoded(self.model.vae, x)
        return Rows(z, z, x * 2 - 1)

    def _blotches(self, found: Tensor, latents: Tensor) -> Tensor:
        """L1 of the means of 8, 16 and 32 pixels: what even areas show."""
        off = (found - latents)[:, self.means]
        return torch.stack([F.avg_pool2d(off, size).abs().mean() for size in (1, 2, 4)]).sum()

    def _dreams(self, rng: Generator) -> Tensor:
        """How far latents of scenes are from those that the finished model predicts; half of a prompt alone."""
        lesson, noise, _ = asleep(self.finished, self.model.vae, self.dreams, self.config.dreams, 256, rng, awake=0.5)
        with torch.no_grad():
            wanted = self.finished(noise, lesson.timesteps, lesson.prompts)
        return F.smooth_l1_loss(self.model.denoiser(noise, lesson.timesteps, lesson.prompts), wanted, beta=0.5)


def start(weights: Path, config: Config) -> Model:
    """The finished model in a folder, its decoder as narrow as `config` says, its UNet with a gate (latent_gate.py)."""
    denoiser, vae = load(weights)
    if not hasattr(denoiser.unet, latent_gate.NAME):
        latent_gate.add(denoiser.unet)
    if config.width != vae.config["decoder_channels"][1]:
        vae = narrowed(vae, config.width)
    return Model(denoiser, channels_last(vae))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for everything that training writes")
    parser.add_argument("--weights", type=Path, default=Path("assets/pocket"), help="folder of the finished model to start from")
    parser.add_argument("--folder", default="finetune", help="name of the run's folder")
    parser.add_argument("--steps", type=int, default=Config.steps)
    parser.add_argument("--stop-at", type=int, help="stop at this step with a checkpoint; run again to go on")
    parser.add_argument("--output", type=Path, help="write the averaged weights of the run to this model folder, and stop")
    parser.add_argument("--seed", type=int, default=Config.seed)
    args = parser.parse_args()
    torch.set_num_threads(1)  # see training.loop
    torch.set_flush_denormal(True)
    config, run = Config(steps=args.steps, seed=args.seed), Run(args.runs / args.folder)
    model = start(args.weights, config)
    if args.output is not None:
        averaged(run, model)
        print(f"{args.output}: {export(model.denoiser, model.vae, args.output)} bytes")
        return
    found = sources.choose(sources.read(args.runs / "painter/sources"), "photographs", "people", held_out=False)
    photographs = crops.photographs(args.runs / "painter/sources", found)
    named = [word.name for word in read_vocabulary(args.weights).looks if word.name in LOOKS]
    loss = Finetuning(config, model, photographs, lessons.dreams(args.runs / "dreams.npy"), named).loss
    optimise(
        run, model, loss, seed=config.seed, steps=config.steps, peak=config.peak, warmup=config.warmup, average=config.average,
        stop_at=args.stop_at, save_every=100,
    )  # fmt: skip


if __name__ == "__main__":
    main()
