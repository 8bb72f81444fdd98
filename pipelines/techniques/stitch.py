"""T-Stitch (Pan et al. 2024, arXiv 2402.14167): a second, smaller UNet takes the first, noisiest levels of a frame.

Networks that were trained on the same data agree at high noise, where only large shapes are decided, so the first ⌊fraction · n⌋
of n steps can be drawn by the smaller one (first_levels.py). Both must read the same text and predict in the same latent space.
Pure: what has to agree, and the words where it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.values.types import SpecError


def check(name: str, model: Mapping[str, Any], small: Mapping[str, Any], obstacles: Mapping[str, bool]) -> None:
    """Raises SpecError for a second model that does not fit, naming each fact that differs. model, small: the same facts of both,
    by their names for people. obstacles: what the first model has that cannot be stitched."""
    found = [what for what, there in obstacles.items() if there]
    if found:
        raise SpecError("stitch", f"does not work with {' and '.join(found)}")
    differing = [f"{what} is {small[what]}, not {value}" for what, value in model.items() if small[what] != value]
    if differing:
        raise SpecError("stitch", f"the UNet of {name[-60:]} does not fit this model: {'; '.join(differing)}")
