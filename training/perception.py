"""Compares pictures without exact pixels: a network that names subjects and looks, and statistics of its features.

    python -m training.perception --runs runs

From pure noise no exact pixel can be right, so dreams are compared by local statistics of features (Ulyanov et al. 2016, arXiv
1603.03417; Gatys et al. 2015, arXiv 1505.07376). Regression of a statistic gives its mean, which is the right amount of texture.
Regression of pixels gives the mean of pictures, which has no texture. Neither this network nor that of
`training.namer` judges what ships: they are parts of the loss.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from tqdm import tqdm

from training import aids, data, lessons, scenes
from training.critic import per_row
from training.lessons import Scenes
from training.looks import LOOKS
from training.loop import Average, Run, averaged, channels_last, mixed, optimise
from training.namer import degraded, look_pictures
from training.teacher import Request, draw, teacher

WIDTHS = (32, 64, 96, 128, 160)
CELLS = 4  # along a side, in which statistics are taken
SUBJECTS = tuple(scenes.SUBJECTS)


class Perception(nn.Module):
    """Five convolutions of stride 2, then subject and look from statistics of their features. 1.1 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in zip((3, *WIDTHS[:-1]), WIDTHS, strict=True)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for width in WIDTHS)
        placed = CELLS * CELLS * WIDTHS[-1] + 2 * sum(WIDTHS)
        self.subject = nn.Sequential(nn.Linear(placed, 128), nn.SiLU(), nn.Linear(128, len(SUBJECTS)))
        self.look = nn.Linear(2 * sum(WIDTHS), len(LOOKS))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Pictures (N, 3, H, W) in about [-1, 1], sides multiples of 128, to features at 1/2 .. 1/32 of their size."""
        found = []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.silu(norm(layer(x)))
            found.append(x)
        return found

    def named(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits of subjects (N, 27) and looks (N, 30)."""
        whole = overall(features)
        placed = F.adaptive_avg_pool2d(features[-1].float(), CELLS).flatten(1)
        return self.subject(torch.cat([placed, whole], 1)), self.look(whole)


def moments(y: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Means and standard deviations (N, C, cells, cells) of features (N, C, h, w), float32."""
    y = y.float()
    mean = F.adaptive_avg_pool2d(y, cells)
    return mean, (F.adaptive_avg_pool2d(y.square(), cells) - mean.square()).clamp_min(0).add(1e-4).sqrt()


def overall(features: list[Tensor]) -> Tensor:
    """Means and deviations of all features over the whole picture, (N, 2 * sum(WIDTHS))."""
    return torch.cat([part for y in features for part in moments(y, 1)], 1).flatten(1)


def gram(y: Tensor) -> Tensor:
    """Which features (N, C, h, w) occur together: (N, C, C), float32."""
    flat = y.float().flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def likeness(painted: list[Tensor], real: list[Tensor]) -> Tensor:
    """The distance of the statistics of features from those of real pictures, a mean over stages: (N,)."""
    total = torch.zeros((), device=painted[0].device)
    for k, (a, b) in enumerate(zip(painted, real, strict=True)):
        for mine, theirs in zip(moments(a, CELLS), moments(b.detach(), CELLS), strict=True):
            total = total + per_row((mine - theirs).abs())
        if 0 < k < 4:
            total = total + per_row((gram(a) - gram(b.detach())).abs())
    return total / len(painted)


@dataclass(frozen=True)
class PerceptionConfig:
    steps: int = 1200
    batch: int = 24  # scenes per part; two parts; and as many windows of pictures in looks
    side: int = 128
    peak: float = 1.5e-3
    warmup: int = 60
    average: float = 0.99
    seed: int = 7


def train(config: PerceptionConfig, run: Run, store: np.ndarray, named: Scenes, stop_at: int | None = None) -> Average:
    """Trains on scenes, half of them in random requests, and on pictures in looks; from the checkpoint where there is one."""
    torch.manual_seed(config.seed)
    model = channels_last(Perception())

    def loss(step: int, rng: Generator) -> tuple[Tensor, dict[str, float]]:
        n, side = (config.batch, config.side) if step % 2 else (config.batch // 4, 2 * config.side)
        x, subjects = named.batch(n, side, rng)
        for part in x[: n // 2].split(3):
            part.copy_(teacher(part, draw(rng)))
        windows = data.batch(store, n, side, rng)
        looks = torch.randint(0, len(LOOKS), (n // 3,), generator=rng).repeat_interleave(3)
        for part, look in zip(windows.split(3), looks[::3].tolist(), strict=True):
            part.copy_(teacher(part, Request(list(LOOKS)[look])))
        seen = degraded(torch.cat([x, windows]), rng) * 2 - 1
        with mixed("cpu"):
            subject, look_of = model.named(model(seen.contiguous(memory_format=torch.channels_last)))
        wanted = torch.tensor([SUBJECTS.index(name) for name in subjects])
        found = F.cross_entropy(subject[:n].float(), wanted, label_smoothing=0.05)
        value = found + F.cross_entropy(look_of[n:].float(), looks, label_smoothing=0.05)
        return value, {"right": float((subject[:n].argmax(1) == wanted).float().mean())}

    return optimise(
        run, model, loss, seed=config.seed, steps=config.steps, peak=config.peak, warmup=config.warmup, average=config.average,
        stop_at=stop_at,
    )  # fmt: skip


def fit_looks(model: Perception, store: np.ndarray, windows: int, seed: int = 0, side: int = 256, epochs: int = 60) -> float:
    """Fit the layer that names looks to `windows` windows of the pool in every look; all other layers stay.

    Training leaves low probabilities for looks that are close to a photograph (cartoons 0.2), which is not enough for a loss.
    Returns the share of right names.
    """
    rng, found, labels = Generator().manual_seed(seed + 6_000), [], []
    with torch.no_grad():
        for x, named in tqdm(look_pictures(store, windows, side, rng), total=windows, desc="looks", mininterval=10):
            features = model((x * 2 - 1).contiguous(memory_format=torch.channels_last))
            found.append(overall(features))
            labels.append(named)
    whole, wanted = torch.cat(found), torch.cat(labels)
    centre, scale = whole.mean(0), whole.std(0) + 1e-3
    x = (whole - centre) / scale
    head = nn.Linear(x.shape[1], len(LOOKS))
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=0.05)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=rng).split(256):
            optimizer.zero_grad()
            F.cross_entropy(head(x[rows]), wanted[rows], label_smoothing=0.05).backward()
            optimizer.step()
    with torch.no_grad():
        model.look.weight.copy_(head.weight / scale)
        model.look.bias.copy_(head.bias - head.weight @ (centre / scale))
        return float((model.look(whole).argmax(1) == wanted).float().mean())


def load(runs: Path) -> Perception:
    """The averaged network of a run, else the one beside the code; frozen. Raises FileNotFoundError if there is neither."""
    model = Perception()
    if (runs / "perception" / "checkpoint.pt").exists() or not aids.take(model, "perception"):
        averaged(Run(runs / "perception"), model)
    return channels_last(model.eval().requires_grad_(False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for everything that training writes")
    parser.add_argument("--steps", type=int, default=PerceptionConfig.steps)
    parser.add_argument("--scenes", type=int, default=5000, help="size of the pool of scenes")
    parser.add_argument("--windows", type=int, default=120, help="windows that the naming of looks is fitted to, in every look")
    parser.add_argument("--kept", action="store_true", help="train nothing, and fit the network that is kept with the code")
    args = parser.parse_args()
    torch.set_num_threads(1)  # see training.loop
    torch.set_flush_denormal(True)
    store = np.load(args.runs / "sources.npy", mmap_mode="r")
    if args.kept:
        model = Perception()
        if not aids.take(model, "perception"):
            raise SystemExit("no perception network is kept with the code")
        print({"looks": fit_looks(channels_last(model.eval()), store, args.windows)})
        aids.keep(model, "perception")
        return
    named = lessons.scene_pool(args.runs / "scenes.npy", args.scenes, 0)
    run = Run(args.runs / "perception")
    train(PerceptionConfig(steps=args.steps), run, store, named)
    model = load(args.runs)
    print({"looks": fit_looks(model, store, args.windows)})
    state = run.load()
    assert state is not None
    state["module"] = model.state_dict()
    state["average"]["shadow"] = [p.detach().clone() for p in model.parameters()]
    run.save(state)


if __name__ == "__main__":
    main()
