"""The published network as the teacher: what it makes of a picture, and what its blocks held while it did."""

from __future__ import annotations

from typing import Any

import openvino
import torch
from torch import Tensor, nn

from pipelines.networks.painter import Painter

HINTS = (2, 5)
"""Blocks of the teacher whose features are hints: the middle and the last."""


class Teacher:
    """The published network on one thread, at one size."""

    def __init__(self, painter: Painter, side: int, hints: bool = False) -> None:
        """hints: whether `study` is going to be called; it costs a little."""
        network = _WithHints(painter.float().eval()) if hints else painter.float().eval()
        example = (torch.zeros(1, 3, side, side), torch.zeros(1, painter.styles.shape[1]))
        model: Any = openvino.convert_model(network, example_input=example)
        model.reshape({0: [1, 3, side, side], 1: [1, painter.styles.shape[1]]})
        self.graph = openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"})
        self.numbers = {look: painter.style(look)[None].float().numpy() for look in painter.config["looks"]}

    def paint(self, picture: Tensor, look: str) -> Tensor:
        """[3, S, S] to [3, S, S]."""
        return self.study(picture, look)[0]

    def study(self, picture: Tensor, look: str) -> list[Tensor]:
        """[3, S, S] to the painted picture, and with hints features [32, S/4, S/4] of two blocks."""
        made = self.graph([picture[None].contiguous().numpy(), self.numbers[look]])
        return [torch.from_numpy(made[k][0].copy()) for k in range(len(self.graph.outputs))]


class _WithHints(nn.Module):
    def __init__(self, painter: Painter) -> None:
        super().__init__()
        self.painter = painter

    def forward(self, picture: Tensor, style: Tensor) -> tuple[Tensor, ...]:
        found: list[Tensor] = []
        hooks = [self.painter.middle[k].register_forward_hook(lambda _, __, h: found.append(h)) for k in HINTS]
        painted = self.painter(picture, style)
        for hook in hooks:
            hook.remove()
        return painted, *found
