"""The namer: a look classifier that is a part of the refinement's loss (`training.refine`).

    python -m training.namer --runs runs

It is trained on teacher outputs only, never on a model's pictures, and judges nothing: training/judging measures what ships. A
convolutional trunk is trained end to end. Then the two upper layers are fitted to the trunk's descriptors of many pictures, which
are computed once; this takes seconds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, safe_open, save_file
from torch import Generator, Tensor, nn

from training import data, filters, scenes
from training.looks import LOOKS
from training.loop import Run, channels_last, mixed, optimise
from training.teacher import Request, teacher

FEATURES = 96
WINDOW = 256  # side of the windows that the upper layers are fitted to: one of 128 pixels may show only sky
WIDTHS = (24, 48, 72, 96, 128)
FOLDER = Path(__file__).parent
NAMER = "namer.safetensors"
STEPS, WINDOWS = 600, 80
"""Steps of the trunk's training; windows in every look for the upper layers."""
OFFSET = 5  # added to the seed


class Classifier(nn.Module):
    """Five convolutions of stride 2; mean and deviation of every stage describe textures of all scales.

    Sides are multiples of 8 from 64 pixels; windows start on the grid of 8 pixels, as the patterns of the looks do. 0.3 M
    parameters.
    """

    centre: Tensor  # of the descriptor, (D,)
    scale: Tensor

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip((3, *WIDTHS[:-1]), WIDTHS, strict=True)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in WIDTHS)
        size = 2 * (3 + sum(WIDTHS))
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.project = nn.Linear(size, FEATURES)
        self.head = nn.Linear(FEATURES, len(names))

    def describe(self, x: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) in [0, 1] to descriptors (N, D)."""
        y = x * 2 - 1
        stages = [y]
        for convolve, norm in zip(self.convolutions, self.norms, strict=True):
            y = F.silu(norm(convolve(y)))
            stages.append(y)
        found = [statistic for y in stages for statistic in (y.mean((2, 3)), (y.var((2, 3)) + 1e-4).sqrt())]
        return torch.cat(found, 1).float()

    def features(self, x: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) in [0, 1] to (N, 96)."""
        return self.upper(self.describe(x))

    def upper(self, descriptor: Tensor) -> Tensor:
        return F.silu(self.project((descriptor - self.centre) / self.scale))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        scores: Tensor = self.head(self.features(x))
        return scores


def save(model: Classifier, path: Path) -> None:
    """Writes float16 weights with the names of the classes; about half a megabyte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().to(torch.float16).contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, path, metadata={"names": json.dumps(model.names)})


def load(path: Path) -> Classifier:
    """The classifier that `save` wrote, in float32. FileNotFoundError where there is none."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no namer; python -m training.namer makes it")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    model = Classifier(tuple(json.loads(metadata["names"])))
    model.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return channels_last(model.eval())


def load_kept(runs: Path) -> Classifier:
    """The namer, the look classifier of the refinement's loss: from `runs`, else the one beside the code."""
    made = runs / NAMER
    return load(made if made.is_file() else FOLDER / NAMER)


@dataclass(frozen=True)
class NamerConfig:
    steps: int = STEPS
    batch: int = 32  # per part; two parts
    side: int = 128
    peak: float = 2e-3
    warmup: int = 100
    average: float = 0.995
    seed: int = 0


Batch = tuple[Tensor, Tensor]


def look_batch(store: np.ndarray, config: NamerConfig, rng: Generator) -> Batch:
    """Sixteen looks, each on a sixteenth of the batch; labels."""
    names = list(LOOKS)
    x = data.batch(store, config.batch, config.side, rng)
    picks = torch.randperm(len(names), generator=rng)[:16].tolist()
    pictures, labels = [], []
    for look, part in zip(picks, x.chunk(16), strict=False):
        pictures.append(teacher(part, Request(names[look])))
        labels += [look] * len(part)
    return degraded(torch.cat(pictures), rng), torch.tensor(labels)


def degraded(x: Tensor, rng: Generator) -> Tensor:
    """Add a little exposure, blur and noise, as in a model's pictures."""
    one = (x.shape[0], 1, 1, 1)
    x = x * scenes.uniform(one, 0.92, 1.08, rng) + scenes.uniform(one, -0.03, 0.03, rng)
    x = filters.mix(x, filters.blur(x, 0.8), torch.rand(one, generator=rng) ** 3)
    return (x + 0.012 * torch.rand(one, generator=rng) * torch.randn(x.shape, generator=rng)).clamp(0, 1)


def train(config: NamerConfig, run: Run, names: tuple[str, ...], store: np.ndarray) -> Classifier:
    """Trains the trunk from the run's checkpoint, where there is one; returns the averaged model."""
    torch.manual_seed(config.seed)
    model = channels_last(Classifier(names))

    def loss(step: int, rng: Generator) -> tuple[Tensor, dict[str, float]]:
        x, labels = look_batch(store, config, rng)
        with mixed("cpu"):
            logits = model(x.contiguous(memory_format=torch.channels_last)).float()
        right = float((logits.argmax(1) == labels).float().mean())
        return F.cross_entropy(logits, labels, label_smoothing=0.05), {"right": right}

    average = optimise(
        run, model, loss, seed=config.seed, steps=config.steps, peak=config.peak, warmup=config.warmup, average=config.average,
    )  # fmt: skip
    average.copy_to(model)
    return model.eval()


@torch.no_grad()
def described(model: Classifier, batches: Iterable[Batch]) -> Batch:
    """Descriptors and labels of many batches of pictures."""
    found = [(model.describe(x.contiguous(memory_format=torch.channels_last)), labels) for x, labels in batches]
    return torch.cat([d for d, _ in found]), torch.cat([labels for _, labels in found])


def look_pictures(store: np.ndarray, count: int, side: int, rng: Generator) -> Iterator[Batch]:
    """`count` windows of the pool in every look, half of them degraded; a batch per window."""
    for k in range(count):
        x = data.batch(store, 1, side, rng)
        painted = torch.cat([teacher(x, Request(look)) for look in LOOKS])
        yield (degraded(painted, rng) if k % 2 else painted), torch.arange(len(LOOKS))


def fit(model: Classifier, descriptors: Tensor, labels: Tensor, seed: int, epochs: int = 60) -> Classifier:
    """Fits the two upper layers to descriptors (N, D), the trunk as it is."""
    torch.manual_seed(seed)
    rng = Generator().manual_seed(seed)
    model.centre.copy_(descriptors.mean(0))
    model.scale.copy_(descriptors.std(0) + 1e-3)
    model.project.reset_parameters()
    model.head.reset_parameters()
    parameters = [*model.project.parameters(), *model.head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.05)
    batches = -(-len(labels) // 256)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels), generator=rng).chunk(batches):
            kept = torch.rand(len(rows), descriptors.shape[1], generator=rng) > 0.1
            y = torch.where(kept, descriptors[rows], model.centre)
            loss = F.cross_entropy(model.head(model.upper(y)), labels[rows], label_smoothing=0.02)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def make(runs: Path, store: np.ndarray, config: NamerConfig, windows: int) -> Classifier:
    """Trains the namer and writes it to `runs`."""
    model = train(config, Run(runs / "namer"), tuple(LOOKS), store)
    side = min(WINDOW, store.shape[-1])
    pictures = look_pictures(store, windows, side, Generator().manual_seed(config.seed + 1))
    model = fit(model, *described(model, pictures), config.seed)
    save(model, runs / NAMER)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for everything that training writes")
    parser.add_argument("--pictures", type=int, default=3000, help="size of the pool of source pictures")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the trunk's training")
    parser.add_argument("--windows", type=int, default=WINDOWS, help="windows in every look for fitting the upper layers")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)  # see training.loop
    torch.set_flush_denormal(True)
    store = data.pool(args.runs / "sources.npy", args.pictures, args.seed)
    make(args.runs, store, NamerConfig(steps=args.steps, seed=args.seed + OFFSET), args.windows)


if __name__ == "__main__":
    main()
