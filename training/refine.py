"""Distils the denoiser to few steps: trains denoiser and decoder together, on decoded pictures, against a critic.

    python -m training.refine --runs runs --steps 2200

The reason: where noise hides information, regression draws the mean of the possibilities, which is blurred. A critic that
distinguishes the model's pictures from the teacher's rejects the mean (adversarial distillation, Sauer et al. 2023, arXiv
2311.17042, without a pretrained network). Pictures are 256 x 256. The rest of the loss is that of the autoencoder plus the
difference of local edge energy, which keeps lines, dots and hatching sharp where the noise hides their exact position.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from pipelines.networks.cosine_autoencoder import CosineAutoencoder
from training import aids, autoencoder, lessons, perception
from training.autoencoder import picture_loss
from training.bands import with_strength_of
from training.critic import Critic, critic_losses, per_row
from training.denoiser import Denoiser, asleep, block_means, encoded, noised
from training.lessons import Dreams, Lessons, Mixture, Scenes
from training.loop import Average, Run, averaged, channels_last, mixed, optimise
from training.losses import energy_loss, namer_loss, pattern_gap, perceptual_loss
from training.model import TIMESTEP_POWER
from training.namer import Classifier, load_kept
from training.perception import Perception

COARSE = 8  # pixels: the means over so many are what a dream has to get right first
EXACT = ("waves", "stripes", "circles", "spiral", "checks")
"""Subjects that are a pattern. In dreams of all others the detail (streaks, stars, grain, leaves) may be anywhere: a loss on its
exact position would remove it."""


@dataclass(frozen=True)
class Weights:
    """Weights of the parts of the loss.

    Exact parts: latents, pixels and the critic's features; means of 8 x 8 pixels. Others: patterns that repeat with every latent,
    statistics of features and names (training.perception), strength of detail (training.bands), the critic's score.

    The influence of a part is its gradient, not its value: names and score of dreams have 10 times that of pixels, and latents a
    tenth.
    """

    exact: float = 1.0
    coarse: float = 0.0
    pattern: float = 0.0
    alike: float = 0.0
    called: float = 0.0
    amount: float = 0.0
    dislike: float = 0.0


@dataclass(frozen=True)
class RefineConfig:
    steps: int = 2200
    batch: int = 4  # per part; two parts
    side: int = 256  # pixels
    peak: float = 2e-4
    warmup: int = 40
    average: float = 0.99
    groups: int = 4  # requests per part
    mixture: Mixture = field(
        default_factory=lambda: Mixture(again=0.25, plain=0.06, focus=(250, 750), focused=0.85, detailed=0.5)
    )
    scenes: int = 5000  # as for the denoiser
    dreams: int = 1  # per part
    latent: int = 4  # more dreams per part, of which only latents are compared: a third of the time for a row
    awake: float = 0.2  # share of these that start from less than noise alone
    windows: int = 16  # lessons of half the side per part, compared as latents
    large: int = 6  # every how many steps there is one dream of twice the side instead of everything else
    # shares of rows with one of the model's own steps before them, of these with a second, of these with a third
    carried: tuple[float, ...] = (0.5, 0.5, 0.4)
    # the target of such rows is the step before, this far towards the teacher's strength of detail; with the teacher's picture as
    # target they learn to smooth away the first step's errors and its detail
    amounts: float = 0.8
    later: tuple[float, ...] = (0.6, 0.35)  # the same of dreams
    latents: float = 8.0  # weight of latents compared as such, wherever "exact" has them, and in the windows
    energy: float = 0.2  # weight of the edge energy's difference
    decoder: bool = True  # whether the decoder learns, too
    faithful: float = 0.5  # weight of decoding the true latents
    matching: float = 1.0  # weight of the critic's features
    others: Weights = field(  # of what is not dreamt
        default_factory=lambda: Weights(coarse=1.0, pattern=5.0, alike=0.5, called=0.4, amount=0.5, dislike=0.15)
    )
    dreamt: Weights = field(  # dreams of EXACT, and of all else
        default_factory=lambda: Weights(0.5, coarse=1.0, pattern=4.0, alike=0.5, called=0.05, dislike=0.05)
    )
    loose: Weights = field(default_factory=lambda: Weights(0.25, coarse=1.0, pattern=4.0, alike=0.5, called=0.05, dislike=0.1))
    seed: int = 0


class LessonResult(NamedTuple):
    """Results of lessons: the lessons, the predicted latents, the true latents and pictures (in [-1, 1]), and the exact targets.

    The exact targets are the true ones, except for later steps: there they have the first step's lines at the true strength.
    """

    lesson: Lessons
    found: Tensor
    latents: Tensor
    picture: Tensor
    near_latents: Tensor
    near: Tensor


class Painter(nn.Module):
    """Denoiser, autoencoder and critic as one module; the encoder is frozen."""

    def __init__(self, denoiser: Denoiser, vae: CosineAutoencoder) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.vae = vae
        self.critic = Critic()
        for name, parameter in vae.named_parameters():
            parameter.requires_grad_(not name.startswith("analysis."))

    def decode(self, z: Tensor) -> Tensor:
        """Latents to pictures in about [-1, 1], float32."""
        with mixed(z.device.type):
            picture: Tensor = self.vae.decode(z, return_dict=False)[0]
        return picture.float()


@torch.no_grad()
def carried_on(
    model: Denoiser, x: Tensor, t: Tensor, prompts: list[str], shares: tuple[float, ...], rng: Generator
) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
    """Latents x (N, C, h, w) at timesteps t (N,), about `shares[0]` of them after one of the model's own steps, and its result.

    Of these rows `shares[1]` have a second step before them, and so on. The result of the last step, (C, h, w), is returned by
    row. Such rows are the model's own results, noised again for a later level of two to four. Training on the model's own first
    steps keeps later steps from drifting (backward simulation: Yin et al. 2024, arXiv 2405.14867).
    """
    rows = list(range(len(prompts)))
    found: dict[int, Tensor] = {}
    for share in shares:
        chosen = (torch.rand(len(rows), generator=rng) < share).tolist()
        left = torch.tensor([1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4])[torch.randint(0, 5, (len(rows),), generator=rng)]
        noise = torch.randn((len(rows), *x.shape[1:]), generator=rng)[chosen].to(x)
        left = left[chosen].to(t.device) ** TIMESTEP_POWER
        rows = [row for row, taken in zip(rows, chosen, strict=True) if taken]
        if not rows:
            break
        z = model(x[rows].contiguous(memory_format=torch.channels_last), t[rows], [prompts[row] for row in rows])
        x, t = x.clone(), t.clone()
        t[rows] = torch.round(t[rows] * left).long()
        x[rows] = model.noisy(z, t[rows], noise)
        found |= dict(zip(rows, z, strict=True))
    return x, t, found


def joined(a: LessonResult, b: LessonResult) -> LessonResult:
    """Two batches of lessons with their tensors as one."""
    one, other = a.lesson, b.lesson
    start, target, levels = (
        torch.cat(pair) for pair in ((one.start, other.start), (one.target, other.target), (one.timesteps, other.timesteps))
    )
    lesson = Lessons(start, target, one.prompts + other.prompts, levels, one.subjects + other.subjects, one.looks + other.looks)
    return LessonResult(lesson, *(torch.cat(pair) for pair in zip(a[1:], b[1:], strict=True)))


def kinds(lesson: Lessons, others: int) -> dict[str, list[int]]:
    """The rows of each kind that `RefineConfig` has weights for: the first so many are not dreamt."""
    rows: dict[str, list[int]] = {"others": list(range(others)), "dreamt": [], "loose": []}
    for row, subject in enumerate(lesson.subjects[others:], others):
        rows["dreamt" if subject in EXACT else "loose"].append(row)
    return {kind: members for kind, members in rows.items() if members}


class Refinement:
    """The loss of one refinement: lessons of pictures and scenes, dreams of scenes, and what the parts of a batch cost."""

    def __init__(
        self, config: RefineConfig, painter: Painter, store: np.ndarray, named: Scenes, dreams: Dreams, seeing: Perception,
        namer: Classifier | None, device: str,
    ) -> None:  # fmt: skip
        self.config, self.painter, self.device = config, painter, device
        self.store, self.named, self.dreams = store, named, dreams
        self.seeing, self.namer = seeing, namer
        self.means = block_means(painter.vae)

    def loss(self, step: int, rng: Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of one step, and its parts. Every `large` steps there is one dream of twice the side instead of a batch."""
        config = self.config
        large = step % config.large == config.large - 1
        if large:
            done, others = self._dream_results(1, 2 * config.side, rng), 0
        else:
            done, others = joined(self._awake(rng), self._dream_results(config.dreams, config.side, rng)), config.batch
        value, found = self._painted(done, others, rng)
        if config.latent:
            n = max(1, config.latent // 4) if large else config.latent
            part, found["off"] = self._latents_only(n, 2 * config.side if large else config.side, rng)
            value = value + part * (n / len(done.found))
        if config.windows and not large:
            part = self._windows(rng)
            value, found["windows"] = value + config.latents * part, part.item()
        return value, found

    def _awake(self, rng: Generator) -> LessonResult:
        """Lessons with a picture to start from."""
        config, painter, model = self.config, self.painter, self.painter.denoiser
        lesson = lessons.batch(self.store, self.named, config.batch, config.side, config.groups, config.mixture, rng)
        x, t, target = noised(model, painter.vae, lesson, rng)
        x, t, before = carried_on(model, x, t, lesson.prompts, config.carried, rng)
        x, picture = x.contiguous(memory_format=torch.channels_last), lesson.target.to(self.device) * 2 - 1
        near_latents, near = target, picture
        if before:
            rows, own = list(before), torch.stack(list(before.values()))
            near_latents, near = target.clone(), picture.clone()
            with torch.no_grad():
                near[rows] = with_strength_of(painter.decode(own).clamp(-1, 1), picture[rows], config.amounts)
                near_latents[rows] = encoded(painter.vae, near[rows] / 2 + 0.5)
        return LessonResult(lesson, model(x, t, lesson.prompts), target, picture, near_latents, near)

    def _dream_results(self, n: int, side: int, rng: Generator) -> LessonResult:
        """The same for dreams, some of them after one of the model's own steps."""
        model = self.painter.denoiser
        lesson, x, target = asleep(model, self.painter.vae, self.dreams, n, side, rng)
        t = lesson.timesteps.to(self.device)
        x, t, _ = carried_on(model, x, t, lesson.prompts, self.config.later, rng)
        z = model(x.contiguous(memory_format=torch.channels_last), t, lesson.prompts)
        picture = lesson.target.to(self.device) * 2 - 1
        return LessonResult(lesson, z, target, picture, target, picture)

    def _latents_only(self, n: int, side: int, rng: Generator) -> tuple[Tensor, float]:
        """The loss of n dreams as latents, and how far their means of 8 x 8 pixels are off."""
        config, model, means = self.config, self.painter.denoiser, self.means
        lesson, x, target = asleep(model, self.painter.vae, self.dreams, n, side, rng, config.awake)
        z = model(x, lesson.timesteps.to(self.device), lesson.prompts)
        value, off = torch.zeros((), device=z.device), F.l1_loss(z[:, means], target[:, means])
        for kind, rows in kinds(lesson, 0).items():
            weights: Weights = getattr(config, kind)
            part = config.latents * weights.exact * F.smooth_l1_loss(z[rows], target[rows], beta=0.5)
            part = part + weights.coarse * F.l1_loss(z[rows][:, means], target[rows][:, means])
            value = value + part * (len(rows) / n)
        return value, off.item()

    def _windows(self, rng: Generator) -> Tensor:
        """The loss of windows of pictures as latents, as the denoiser's training has it."""
        config, painter = self.config, self.painter
        side = max(64, config.side // 2)
        lesson = lessons.batch(self.store, self.named, config.windows, side, config.groups, config.mixture, rng)
        x, t, target = noised(painter.denoiser, painter.vae, lesson, rng)
        z = painter.denoiser(x, t, lesson.prompts)
        return F.smooth_l1_loss(z, target, beta=0.5)

    def _painted(self, done: LessonResult, others: int, rng: Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of decoded pictures, and its parts; the first `others` rows are not dreamt."""
        config, painter, (lesson, z, target, picture, near_latents, near) = self.config, self.painter, done
        half = (len(z) + 1) // 2 if config.decoder else 0  # the true latents of half the batch keep the decoder faithful
        decoded = painter.decode(torch.cat([z, target[:half]]))
        painted, rebuilt = decoded[: len(z)], decoded[len(z) :]
        pooled = painter.denoiser.pooled(lesson.prompts)
        dislike, matching, own = critic_losses(
            painter.critic, painted.contiguous(memory_format=torch.channels_last), picture, pooled
        )
        louder = self._louder(done, painted, others)
        alike, called = perceptual_loss(self.seeing, painted, picture, lesson)
        off = per_row(F.smooth_l1_loss(z, near_latents, beta=0.5, reduction="none"))
        parts = {
            "exact": config.latents * off + config.matching * matching,
            "coarse": per_row((F.avg_pool2d(painted, COARSE) - F.avg_pool2d(picture, COARSE)).abs()),
            "pattern": pattern_gap(painted, picture),
            "alike": alike,
            "called": called if self.namer is None else called + namer_loss(self.namer, painted, lesson, rng),
            "amount": config.latents * per_row(F.smooth_l1_loss(z, louder, beta=0.5, reduction="none")),
            "dislike": dislike,
        }
        value = own.mean()
        if half:
            value = value + config.faithful * picture_loss(rebuilt, picture[:half])
        found = {"critic": own.mean().item()}
        for kind, rows in kinds(lesson, others).items():
            shown, meant, weights = painted[rows], picture[rows], getattr(config, kind)
            part = weights.exact * picture_loss(shown, near[rows]) + config.energy * energy_loss(shown, meant)
            for name, values in parts.items():
                part = part + getattr(weights, name) * values[rows].mean()
                found[f"{kind}_{name}"] = values[rows].mean().item()
            value = value + part * (len(rows) / len(z))
        return value, found

    def _louder(self, done: LessonResult, painted: Tensor, others: int) -> Tensor:
        """The latents of the painted pictures with the teacher's amount of detail, for kinds that have a weight for it."""
        loud = [row for kind, rows in kinds(done.lesson, others).items() if getattr(self.config, kind).amount for row in rows]
        louder = done.found.detach().clone()
        if loud:
            with torch.no_grad():
                drawn = with_strength_of(painted[loud].clamp(-1, 1), done.picture[loud], self.config.amounts)
                louder[loud] = encoded(self.painter.vae, drawn / 2 + 0.5)
        return louder


def train(
    config: RefineConfig, run: Run, store: np.ndarray, named: Scenes, dreams: Dreams, painter: Painter, seeing: Perception, *,
    namer: Classifier | None = None, device: str = "cpu", stop_at: int | None = None, sheet: Any = None,
) -> Average:  # fmt: skip
    """Trains `painter` on pools of pictures and scenes, from the run's checkpoint where there is one.

    `namer` also names the looks of the painted pictures.
    """
    painter = channels_last(painter.to(device))
    if not config.decoder:
        painter.vae.requires_grad_(False)
    namer = None if namer is None else namer.to(device).requires_grad_(False)
    refinement = Refinement(config, painter, store, named, dreams, seeing.to(device), namer, device)
    return optimise(
        run, painter, refinement.loss, seed=config.seed, steps=config.steps, peak=config.peak, warmup=config.warmup,
        average=config.average, stop_at=stop_at, sheet=sheet, save_every=150,
    )  # fmt: skip


def load_painter(runs: Path, folder: str = "refine") -> Painter:
    """The refined painter in a folder of `runs`, averaged weights."""
    vae = autoencoder.read(runs / "autoencoder")
    return averaged(Run(runs / folder), Painter(Denoiser(vae.config["latent_channels"]), vae))


def start_painter(runs: Path, weights: Path | None = None) -> Painter:
    """The start of a refinement: the averaged denoiser of `runs/denoiser` with a new critic, or a finished model with the stored
    one.

    weights: the finished model, a folder that `training.export` wrote. Its autoencoder becomes that of `runs`.
    """
    if weights is None:
        vae = autoencoder.read(runs / "autoencoder")
        return Painter(averaged(Run(runs / "denoiser"), Denoiser(vae.config["latent_channels"])).train(), vae)
    from training.export import load
    from training.grow import take_over

    finished, vae = load(weights)
    vae.save_pretrained(runs / "autoencoder")
    denoiser = Denoiser(vae.config["latent_channels"])
    take_over(denoiser, finished, ends=True)
    painter = Painter(denoiser.train(), vae.train())
    aids.take(painter.critic, "critic")
    return painter


def run_stage(
    runs: Path, config: RefineConfig, *, folder: str = "refine", weights: Path | None = None, device: str = "cpu",
    stop_at: int | None = None,
) -> None:  # fmt: skip
    """Refines the averaged denoiser of `runs/denoiser`, or a finished model (`weights`), in a folder of `runs`, with sheets."""
    from training.sheet import write_sheet

    run = Run(runs / folder)
    painter = start_painter(runs, weights)
    store, named = (
        np.load(runs / "sources.npy", mmap_mode="r"),
        lessons.scene_pool(runs / "scenes.npy", config.scenes, config.seed),
    )

    def sheet(model: Any, step: int) -> None:
        path = run.folder / f"sheet_{step:06d}.jpg"
        write_sheet(path, model.denoiser, model.vae, strengths=(0.5,), side=256, names=("astronaut", "tower"))

    dreams = lessons.dreams(runs / "dreams.npy")
    seeing, namer = perception.load(runs), load_kept(runs)
    train(config, run, store, named, dreams, painter, seeing, namer=namer, device=device, stop_at=stop_at, sheet=sheet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for everything that training writes")
    parser.add_argument("--steps", type=int, default=RefineConfig.steps)
    parser.add_argument("--folder", default="refine", help="name of the run's folder")
    parser.add_argument("--weights", type=Path, help="folder of a finished model to go on from, instead of the denoiser's run")
    parser.add_argument("--scenes", type=int, default=RefineConfig.scenes, help="size of the pool of scenes, as for the denoiser")
    parser.add_argument("--stop-at", type=int, help="stop at this step with a checkpoint; run again to go on")
    parser.add_argument("--peak", type=float, default=RefineConfig.peak, help="highest learning rate")
    parser.add_argument("--keep-decoder", action="store_true", help="train the denoiser alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)  # see training.loop
    torch.set_flush_denormal(True)
    config = RefineConfig(steps=args.steps, peak=args.peak, scenes=args.scenes, decoder=not args.keep_decoder, seed=args.seed)
    run_stage(args.runs, config, folder=args.folder, weights=args.weights, device=args.device, stop_at=args.stop_at)


if __name__ == "__main__":
    main()
