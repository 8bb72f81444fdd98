"""A fit of a style to a picture, with the networks and the photographs that a model's folder has for it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch

from pipelines import media
from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.checkpoints.loader.style_reading import middle
from pipelines.graphs.backends import precision
from pipelines.techniques.style_fit import Plan, StyleFit
from pipelines.values.picture_style import PictureStyle
from pipelines.values.types import ModelError, Pixels

SIDE = 448
"""Pixels of the picture's middle when its strokes are measured."""
CONTENT_SIDE = 512


def fitting(parts: ModelParts, picture: Pixels, plan: Plan = Plan()) -> StyleFit:  # noqa: B008 - frozen
    """The fit of a picture, uint8 [height, width, 3], from its predicted numbers on. Raises ModelError for a model without a
    style reader, or without photographs to paint."""
    network = parts.style_network
    contents = [media.read_picture(path, CONTENT_SIDE, CONTENT_SIDE) for path in parts.calibration]
    if not contents:
        raise ModelError(f"{parts.name}/calibration: has no photographs to fit styles with")
    start = torch.from_numpy(parts.style_reader(picture).numbers)
    half = plan.half and precision.pays_in_torch()
    painter = copy.deepcopy(parts.painter).float().requires_grad_(False)
    return StyleFit(
        painter, network.texture, parts.plain_styles, start, middle(picture, SIDE), contents, replace(plan, half=half)
    )


def fitted(parts: ModelParts, picture: Pixels, plan: Plan = Plan()) -> Iterator[tuple[float, float, PictureStyle]]:  # noqa: B008
    """Fits, step by step: (share that is done, gain over the predicted numbers, the best style so far). On one thread of
    the process, which is meant for nothing else. Raises ModelError."""
    torch.set_num_threads(1)
    fit = fitting(parts, picture, plan)
    while not fit.over:
        fit.step()
        style = PictureStyle(fit.best.numpy(), parts.painter_fingerprint, fitted=fit.done, source=picture)
        yield fit.done / fit.plan.steps, fit.gain, style
