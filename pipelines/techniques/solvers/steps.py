"""The step of any solver between two levels of a frame: which of the solvers' weights it takes."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.techniques.solvers import ddim, dpmpp_2m, lcm
from pipelines.techniques.solvers.affine import NoiseLevel, Number, Weights
from pipelines.values.settings import Solver


def weights(
    solver: Solver, k: int, at: Callable[[int], NoiseLevel], plain: Callable[[int], NoiseLevel], share: Number = 1.0
) -> Weights:
    """The step from level k to level k + 1. at: a level of the frame, numbers or one per pixel; plain: the same, always numbers.
    share: 0 where a pixel took no part in the level before, so that a second-order solver makes a first-order step there."""
    after = at(k + 1)
    if solver == "lcm":
        return lcm.weights(after)
    step = ddim.weights(at(k), after)
    if solver == "ddim" or k == 0:
        return step
    known = [plain(level) for level in (k - 1, k, k + 1)]
    factor = dpmpp_2m.extrapolation([float(level.a) for level in known], [float(level.s) for level in known])
    return dpmpp_2m.weights(step, factor * share)
