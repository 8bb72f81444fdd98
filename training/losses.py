"""Losses beside exact pixels: edge energy, patterns, statistics of features, names.

These parts of `training.refine`'s loss are independent of model and critic.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from training.autoencoder import differences
from training.critic import per_row
from training.lessons import Lessons
from training.looks import LOOKS
from training.loop import mixed
from training.namer import Classifier
from training.perception import SUBJECTS, Perception, likeness

GRID = 4  # latents along a side over which a pattern that repeats with every latent is taken


def edge_energy(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean absolute finite difference per 8 x 8 pixels, along height and width."""
    dy, dx = differences(x)
    return F.avg_pool2d(dy.abs(), 8), F.avg_pool2d(dx.abs(), 8)


def energy_loss(output: Tensor, target: Tensor) -> Tensor:
    pairs = zip(edge_energy(output), edge_energy(target), strict=True)
    return torch.stack([F.l1_loss(a, b) for a, b in pairs]).sum()


def pattern_gap(output: Tensor, target: Tensor) -> Tensor:
    """How far pictures (N, 3, H, W) are off in the pattern that repeats with every 8 x 8 pixels, over GRID x GRID of these: (N,).

    Displaced detail averages away. A hatching or a grid of the latents' period does not: it has the edge energy and statistics of
    strokes, and is easier to draw. Brightness has no effect.
    """
    cells = F.avg_pool2d(F.pixel_unshuffle(output - target, 8), GRID)  # (N, 3 * 64, h, w)
    cells = cells.unflatten(1, (3, 64))
    return per_row((cells - cells.mean(2, keepdim=True)).abs())


def name_loss(names: list[str], listed: tuple[str, ...], logits: Tensor) -> Tensor:
    """Cross-entropy of logits (N, K) for the given names, (N,); 0 for an empty name."""
    wanted = torch.tensor([listed.index(name) if name else -100 for name in names], device=logits.device)
    return F.cross_entropy(logits.float(), wanted, label_smoothing=0.05, reduction="none")


def perceptual_loss(seeing: Perception, painted: Tensor, real: Tensor, lesson: Lessons) -> tuple[Tensor, Tensor]:
    """(distance of the statistics of painted and real pictures, cross-entropy of the painted pictures' names).

    (N,) each; the second is 0 where the lesson names neither a subject nor a look.
    """
    with mixed(painted.device.type):
        with torch.no_grad():
            known = seeing(real.contiguous(memory_format=torch.channels_last))
        features = seeing(painted.contiguous(memory_format=torch.channels_last))
        whole = features if painted.shape[-1] <= 256 else seeing(F.avg_pool2d(painted, painted.shape[-1] // 256))
        named = seeing.named(whole)
    called = name_loss(lesson.subjects, SUBJECTS, named[0]) + name_loss(lesson.looks, tuple(LOOKS), named[1])
    return likeness(features, known), called


def namer_loss(namer: Classifier, painted: Tensor, lesson: Lessons, rng: Generator | None = None) -> Tensor:
    """Cross-entropy of a look classifier for painted pictures (N, 3, H, W) and their looks' names, (N,); 0 without a name.

    With `rng` its input is a random window of three quarters of their side on the grid of 8 pixels, mirrored half of the time, so
    the model cannot optimise single places.

    The perception network soon gives every picture the requested name, and then has no useful gradient: it gives 90% to neon that
    the judge classifies as a photograph. A second network with another initialisation is not fooled by the same pictures.
    """
    if not any(lesson.looks):
        return torch.zeros(len(painted), device=painted.device)
    if rng is not None:
        side = painted.shape[-1] * 3 // 32 * 8
        top, left = (torch.randint(0, (painted.shape[-1] - side) // 8 + 1, (2,), generator=rng) * 8).tolist()
        painted = painted[..., top : top + side, left : left + side]
        painted = painted.flip(3) if float(torch.rand((), generator=rng)) < 0.5 else painted
    return name_loss(lesson.looks, namer.names, namer((painted * 0.5 + 0.5).contiguous(memory_format=torch.channels_last)))
