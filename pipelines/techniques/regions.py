"""Several prompts in one picture: by region ("left: ink | right: van gogh") or by weight ("ink :0.7 | van gogh :0.3"). Pure.

    ε̂ = ε_u + γ·Σ_i w_i·(ε_i − ε_u),   Σ_i w_i = 1

Composable Diffusion (Liu et al. 2022, arXiv 2206.01714) with the weights w_i·γ. It is guidance with the weighted mean of the
conditional predictions, and without guidance that mean. All predictions share x, so the network's outputs are averaged, whatever
they predict. For regions each pixel has weights of its own (MultiDiffusion, Bar-Tal et al. 2023, arXiv 2302.08113).

A prompt is composed only if | outside of brackets divides it into 2 to MOST parts, and either each part begins with a region of
REGIONS and a colon, each region once, or each part ends with a blank, a colon and a weight. Every other prompt is one text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.values.settings import Settings

MOST = 4
"""Parts of a prompt."""

MAX_WEIGHT = 4.0

SOFT = 0.02
"""Width of the borders: between two halves the share falls from 0.9 to 0.1 within 2.2 times this part of the picture's side."""

PAINTED, REST = "painted", "rest"

Depth = Callable[[Tensor, Tensor], Tensor]
"""x, y (0..1 from the left and from the top) to how far inside a region a pixel is, as a part of the side; below 0 outside."""

DEPTHS: dict[str, Depth] = {
    "left": lambda x, y: 0.5 - x,
    "right": lambda x, y: x - 0.5,
    "top": lambda x, y: 0.5 - y,
    "bottom": lambda x, y: y - 0.5,
    "top left": lambda x, y: torch.minimum(0.5 - x, 0.5 - y),
    "top right": lambda x, y: torch.minimum(x - 0.5, 0.5 - y),
    "bottom left": lambda x, y: torch.minimum(0.5 - x, y - 0.5),
    "bottom right": lambda x, y: torch.minimum(x - 0.5, y - 0.5),
    "left third": lambda x, y: 1 / 3 - x,
    "right third": lambda x, y: x - 2 / 3,
    "upper third": lambda x, y: 1 / 3 - y,
    "middle third": lambda x, y: 1 / 6 - (y - 0.5).abs(),
    "lower third": lambda x, y: y - 2 / 3,
    "centre": lambda x, y: 0.3 - torch.hypot(x - 0.5, y - 0.5),
}
SAME = {"center": "centre", "middle": "centre", "upper half": "top", "lower half": "bottom", "everything else": REST}
REGIONS = (*DEPTHS, PAINTED, REST)
"""painted: where the session's mask is white. rest: what no other region of the prompt covers."""

BEGINNING = re.compile(r"\s*([^\W\d_][^\W\d_ -]*(?:[ -][^\W\d_]+){0,3})\s*:(?!:)(?!\s*[\d.]+\s*$)")
WEIGHT = re.compile(r"\s:\s*(\d+\.?\d*|\.\d+)\s*$")


@dataclass(frozen=True, slots=True)
class Part:
    """text: the prompt of this part. region: its name in REGIONS, None for a part with a weight."""

    text: str
    region: str | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Reading:
    """parts: of a composed prompt, else empty. remark: why a prompt that looks like a composed one is read as one text."""

    parts: tuple[Part, ...] = ()
    remark: str | None = None


@lru_cache(256)
def read(prompt: str) -> Reading:
    """The parts of a prompt, as the module's head says."""
    pieces = divided(prompt)
    if len(pieces) < 2:
        return Reading()
    names = [BEGINNING.match(piece) for piece in pieces]
    weights = [WEIGHT.search(piece) for piece in pieces]
    if all(names):
        typed = [" ".join(match[1].casefold().split()) for match in names if match]
        found = [SAME.get(name, name) for name in typed]
        parts = tuple(
            Part(piece[match.end() :].strip(), name) for piece, match, name in zip(pieces, names, found, strict=True) if match
        )
        return _checked(parts, [name for name in dict.fromkeys(typed) if SAME.get(name, name) not in REGIONS])
    if all(weights):
        return _checked(
            tuple(Part(p[: m.start()].strip(), None, float(m[1])) for p, m in zip(pieces, weights, strict=True) if m), []
        )
    return Reading()


def of(settings: Settings) -> tuple[Part, ...]:
    """The parts of these settings' prompt; empty where it is one text, or where prompt_b alone counts."""
    return () if settings.prompt_b and settings.blend == 1.0 else read(settings.prompt).parts


def _checked(parts: tuple[Part, ...], strange: Sequence[str]) -> Reading:
    regions = [part.region for part in parts]
    weights = [part.weight for part in parts]
    known = any(region in REGIONS for region in regions)
    if strange:
        which = ", ".join(map(repr, strange))
        return Reading(remark=f"the prompt is read as one text: no such region as {which}; regions are {', '.join(REGIONS)}")
    if len(parts) > MOST:
        return Reading(remark=f"the prompt is read as one text: it has {len(parts)} parts; {MOST} are allowed")
    if known and len(set(regions)) < len(regions):
        return Reading(remark="the prompt is read as one text: it names a region twice")
    if not known and (max(weights) > MAX_WEIGHT or not sum(weights)):
        return Reading(remark=f"the prompt is read as one text: weights are from 0 to {MAX_WEIGHT:g}, and one is above 0")
    return Reading(parts)


def divided(prompt: str) -> list[str]:
    """The pieces of a prompt between | outside of round, square and angle brackets; a backslash makes | a character."""
    pieces, start, depth = [], 0, 0
    for at, char in enumerate(prompt):
        if at and prompt[at - 1] == "\\":
            continue
        if char in "([<":
            depth += 1
        elif char in ")]>":
            depth = max(depth - 1, 0)
        elif char == "|" and not depth:
            pieces.append(prompt[start:at])
            start = at + 1
    return [*pieces, prompt[start:]]


def shares(parts: Sequence[Part], height: int, width: int, painted: Tensor | None = None) -> Tensor:
    """w_i of each part, [P, 1, height, width], 1 in sum at each pixel. painted: [1, h, w] of any size, 0..1; None for nothing.

    Each pixel belongs to the region in which it is deepest, or to which it is nearest, with soft borders. What is painted lies
    above the other regions. Where parts are weighted all pixels have the same shares.
    """
    weights = torch.tensor([part.weight for part in parts])
    if parts[0].region is None:
        return (weights / weights.sum())[:, None, None, None].expand(-1, 1, height, width)
    on = [index for index, part in enumerate(parts) if part.region == PAINTED]
    flat = [index for index, part in enumerate(parts) if part.region != PAINTED]
    found = torch.zeros(len(parts), 1, height, width)
    white = torch.zeros(1, height, width)
    if on and painted is not None:
        white = F.interpolate(painted[None].cpu(), (height, width), mode="bilinear", antialias=True)[0].clamp(0, 1)
    if on:
        found[on[0]] = white if flat else 1.0
    if flat:
        found[flat] = (1.0 - white) * torch.softmax(_depths([parts[index] for index in flat], height, width) / SOFT, 0)[:, None]
    return found


def _depths(parts: Sequence[Part], height: int, width: int) -> Tensor:
    """How far inside its region each pixel is, [P, height, width]. `rest` is outside of all others."""
    y = ((torch.arange(height) + 0.5) / height)[:, None].expand(height, width)
    x = ((torch.arange(width) + 0.5) / width)[None, :].expand(height, width)
    named = {name: DEPTHS[name](x, y) for name in (part.region or REST for part in parts) if name in DEPTHS}
    outside = -torch.stack(list(named.values())).amax(0) if named else torch.zeros(height, width)
    return torch.stack([named.get(part.region or REST, outside) for part in parts])


def combined(outputs: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Σ_i w_i·output_i [C, h, w], of the network's outputs for one latent. weights: [R, 1, h, w]."""
    return (weights * torch.stack(list(outputs))).sum(0)
