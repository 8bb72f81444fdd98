"""Classifiers that evaluate the model: the look of a picture, and the subject of a scene.

    python -m training.classifier --runs runs
    python -m training.classifier --runs runs --namer

Both are trained on teacher outputs and procedural scenes only, never on a model's pictures. A convolutional trunk is trained end
to end on looks. Then each classifier's two upper layers are fitted to the trunk's descriptors of many pictures, which are
computed once; this takes seconds. `--namer` makes another look classifier with another initialisation for the loss of
`training.refine`, because the judge must not take part in training. Their features give distances between sets of pictures
(Heusel et al. 2017, with these instead of Inception's).
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
from tqdm import tqdm

from training import data, filters, photographs, scenes
from training.looks import LOOKS
from training.loop import Run, channels_last, mixed, optimise
from training.teacher import Request, draw, teacher

FEATURES = 96
SUBJECT_SIDE = 128  # scenes are judged as a whole, at this size
JUDGED_SIDE = 256  # looks are judged on windows of this size: one of 128 pixels may show only sky
WIDTHS = (24, 48, 72, 96, 128)
FOLDER = Path(__file__).parent
NAMER = "namer.safetensors"
OTHER = 5  # added to the namer's seed
JUDGE_AND_NAMER = {False: (1500, 500), True: (600, 80)}
"""(steps of the trunk's training, windows in every look for the upper layers), for the judge (False) and the namer (True)."""


class Classifier(nn.Module):
    """Five convolutions of stride 2; mean and deviation of every stage describe textures of all scales.

    With `bands`, the means of that many bands from top to bottom describe the layout too, and `directions` its lines.
    Sides are multiples of 8 from 64 pixels; windows start on the grid of 8 pixels, as the patterns of the looks do. 0.3 M
    parameters, 0.4 M with three bands.
    """

    centre: Tensor  # of the descriptor, (D,)
    scale: Tensor

    def __init__(self, names: tuple[str, ...], bands: int = 0) -> None:
        super().__init__()
        self.names, self.bands = names, bands
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip((3, *WIDTHS[:-1]), WIDTHS, strict=True)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in WIDTHS)
        size = 2 * (3 + sum(WIDTHS)) + (bands * (3 + sum(WIDTHS[2:])) + 4 if bands else 0)
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
        if self.bands:
            found += [F.adaptive_avg_pool2d(y, (self.bands, 1)).flatten(1) for y in (stages[0], *stages[3:])]
            found.append(directions(x))
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


def directions(x: Tensor, cell: int = 32) -> Tensor:
    """How far the edges of pictures (N, 3, H, W) agree on one direction, and on one or the one across it: (N, 4), 0..1 each, of
    the whole picture and on average over its cells. Stripes have both, checks the second alone, spirals neither.
    """
    down, right = filters.gradients(x)
    g = torch.complex(right.float(), down.float())
    weight = g.abs().square()
    found = []
    for moment in (g.square(), g.pow(4) / (weight + 1e-8)):
        for size in (x.shape[-2:], (cell, cell)):
            real, imaginary, total = (F.avg_pool2d(value, size) for value in (moment.real, moment.imag, weight))
            found.append((torch.hypot(real, imaginary) / (total + 1e-6)).mean((1, 2, 3)))
    return torch.stack(found, 1)


def save(model: Classifier, path: Path) -> None:
    """Writes float16 weights with the names of the classes; about half a megabyte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().to(torch.float16).contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, path, metadata={"names": json.dumps(model.names), "bands": str(model.bands)})


def load(path: Path) -> Classifier:
    """The classifier that `save` wrote, in float32. FileNotFoundError where there is none."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no classifier; python -m training.classifier makes it")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    model = Classifier(tuple(json.loads(metadata["names"])), int(metadata["bands"]))
    model.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return channels_last(model.eval())


def load_namer(runs: Path) -> Classifier:
    """The namer, the look classifier of the refinement's loss: from `runs`, else the one beside the code."""
    made = runs / NAMER
    return load(made if made.is_file() else FOLDER / NAMER)


@torch.no_grad()
def predicted(model: Classifier, x: Tensor) -> list[str]:
    """The most likely class of each picture."""
    return [model.names[k] for k in model(x.contiguous(memory_format=torch.channels_last)).argmax(1).tolist()]


def subject_input(x: Tensor) -> Tensor:
    """Pictures at the input size of the subject classifier."""
    return F.interpolate(x, size=(SUBJECT_SIDE, SUBJECT_SIDE), mode="bilinear", antialias=True, align_corners=False)


def frechet(a: Tensor, b: Tensor) -> float:
    """Frechet distance of two sets of features (N, D) and (M, D): |m_a - m_b|^2 + tr(A + B - 2 (A B)^1/2)."""
    a, b = a.double(), b.double()
    root = _root(torch.cov(a.T, correction=0))
    cross = torch.linalg.eigvalsh(root @ torch.cov(b.T, correction=0) @ root).clamp_min(0).sqrt().sum()
    spread = a.var(0, correction=0).sum() + b.var(0, correction=0).sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + spread - 2 * cross)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


@dataclass(frozen=True)
class ClassifierConfig:
    steps: int = JUDGE_AND_NAMER[False][0]
    batch: int = 32  # per part; two parts
    side: int = 128
    peak: float = 2e-3
    warmup: int = 100
    average: float = 0.995
    seed: int = 0


Batch = tuple[Tensor, Tensor]


def look_batch(store: np.ndarray, config: ClassifierConfig, rng: Generator) -> Batch:
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


def train(config: ClassifierConfig, run: Run, names: tuple[str, ...], store: np.ndarray) -> Classifier:
    """Trains the look classifier from the run's checkpoint, where there is one; returns the averaged model."""
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


def scene_pictures(each: int, rng: Generator) -> Iterator[Batch]:
    """`each` scenes of every subject, half of them in random requests; a batch per subject and pair."""
    for _ in range(each // 2):
        for label, name in enumerate(scenes.SUBJECTS):
            x = scenes.scene(2, SUBJECT_SIDE, rng, (name,))[0]
            yield torch.cat([x[:1], teacher(x[1:], draw(rng))]), torch.tensor([label, label])


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


def with_trunk_of(model: Classifier, names: tuple[str, ...], bands: int) -> Classifier:
    """A classifier of other names on the same convolutions."""
    other = Classifier(names, bands)
    other.convolutions.load_state_dict(model.convolutions.state_dict())
    other.norms.load_state_dict(model.norms.state_dict())
    return channels_last(other)


def held_out_windows(side: int, per_picture: int, rng: Generator) -> Tensor:
    """Windows of the photographs that are kept for evaluation, and as many fresh scenes, (N, 3, side, side)."""
    windows = []
    for picture in photographs.held_out().values():
        small = photographs.square(picture, 2 * side)
        for top, left in torch.randint(0, side + 1, (per_picture, 2), generator=rng).tolist():
            windows.append(small[..., top : top + side, left : left + side])
    photos = torch.cat(windows)
    return torch.cat([photos, scenes.scenery(len(photos), side, rng)])


def confusion(model: Classifier, pictures: dict[str, Tensor]) -> Tensor:
    """Counts (true class, judged class) for pictures by true name."""
    table = torch.zeros(len(model.names), len(model.names), dtype=torch.long)
    for name, x in pictures.items():
        for found in predicted(model, x):
            table[model.names.index(name), model.names.index(found)] += 1
    return table


def accuracy(table: Tensor) -> float:
    return float(table.diag().sum() / table.sum().clamp_min(1))


def mistakes(names: tuple[str, ...], table: Tensor) -> list[tuple[str, str, int]]:
    """(true, judged, count) off the diagonal, most frequent first."""
    found = [(names[i], names[j], int(table[i, j])) for i, j in table.nonzero().tolist() if i != j]
    return sorted(found, key=lambda entry: -entry[2])


def examine_looks(model: Classifier, side: int = JUDGED_SIDE, per_picture: int = 4, seed: int = 91) -> Tensor:
    """Confusion of the look classifier on teacher outputs of held-out pictures."""
    x = held_out_windows(side, per_picture, Generator().manual_seed(seed))
    return confusion(model, {name: teacher(x, Request(name)) for name in model.names if name in LOOKS})


def examine_subjects(model: Classifier, each: int = 12, seed: int = 92) -> Tensor:
    """Confusion of the subject classifier on fresh scenes."""
    rng = Generator().manual_seed(seed)
    pictures = {name: scenes.scene(each, SUBJECT_SIDE, rng, (name,))[0] for name in model.names if name in scenes.SUBJECTS}
    return confusion(model, pictures)


def make_namer(runs: Path, store: np.ndarray, config: ClassifierConfig, windows: int) -> Classifier:
    """Train the namer and write it to `runs`."""
    model = train(config, Run(runs / "namer"), tuple(LOOKS), store)
    side = min(JUDGED_SIDE, store.shape[-1])
    pictures = look_pictures(store, windows, side, Generator().manual_seed(config.seed + 1))
    model = fit(model, *described(model, pictures), config.seed)
    save(model, runs / NAMER)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for everything that training writes")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for classifier_looks and classifier_subjects")
    parser.add_argument("--pictures", type=int, default=3000, help="size of the pool of source pictures")
    parser.add_argument("--steps", type=int, help="of the trunk's training (1500; of the namer's 600)")
    parser.add_argument("--windows", type=int, help="windows in every look for fitting the head (500; the namer's 80)")
    parser.add_argument("--scenes", type=int, default=80, help="scenes per subject")
    parser.add_argument("--trunk", type=Path, help="take the convolutions of this classifier instead of training them")
    parser.add_argument("--only", choices=("looks", "subjects"), help="fit one of the two")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--namer", action="store_true", help="make the one for training.refine instead, in the folder of runs")
    args = parser.parse_args()
    torch.set_num_threads(1)  # see training.loop
    torch.set_flush_denormal(True)
    store = data.pool(args.runs / "sources.npy", args.pictures, args.seed)
    steps, windows = JUDGE_AND_NAMER[args.namer]
    steps, windows = args.steps or steps, args.windows or windows
    if args.namer:
        make_namer(args.runs, store, ClassifierConfig(steps=steps, seed=args.seed + OTHER), windows)
        return
    config = ClassifierConfig(steps=steps, seed=args.seed)
    if args.trunk is None:
        model = train(config, Run(args.runs / "classifier"), tuple(LOOKS), store)
    else:
        model = with_trunk_of(load(args.trunk), tuple(LOOKS), 0)
    if args.only != "subjects":
        rng = Generator().manual_seed(args.seed + 1)
        pictures = tqdm(look_pictures(store, windows, JUDGED_SIDE, rng), total=windows, desc="looks", mininterval=10)
        _finish(fit(model, *described(model, pictures), args.seed), "looks", args.output)
    if args.only != "looks":
        rng = Generator().manual_seed(args.seed + 2)
        model = with_trunk_of(model, tuple(scenes.SUBJECTS), 3)
        total = args.scenes // 2 * len(scenes.SUBJECTS)
        pictures = tqdm(scene_pictures(args.scenes, rng), total=total, desc="scenes", mininterval=10)
        _finish(fit(model, *described(model, pictures), args.seed), "subjects", args.output)


def _finish(model: Classifier, kind: str, folder: Path) -> None:
    path = folder / f"classifier_{kind}.safetensors"
    save(model, path)
    table = (examine_looks if kind == "looks" else examine_subjects)(load(path))
    worst = mistakes(model.names, table)[:12]
    print(json.dumps({"classifier": kind, "bytes": path.stat().st_size, "accuracy": accuracy(table), "mistakes": worst}))


if __name__ == "__main__":
    main()
