"""Rows of a step to what the network says of them: what each UNet pass takes, and who shares its calls."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.engine.state import Row
from pipelines.engine.work import Work
from pipelines.graphs.graphs import CONTROLLED, Graphs
from pipelines.techniques.conditioning import Condition
from pipelines.techniques.feature_cache import SHORT, Kind
from pipelines.techniques.schedule import Schedule


class Passes:
    """The UNet and, where there is one, the ControlNet of one pipeline.

    no_picture: tokens [T, D] that a row without a picture prompt is told, where the UNet has an adapter for those.
    """

    def __init__(self, graphs: Graphs, schedule: Schedule, no_picture: Tensor | None) -> None:
        self.graphs, self.schedule, self._no_picture = graphs, schedule, no_picture

    def predict(self, rows: Sequence[Row], worked: Work, calls_before: int) -> dict[tuple[int, bool], Tensor]:
        """The network's output for every row, by (frame, whether negative). Rows of one kind of pass share its calls; how many
        they are is added to `worked`. calls_before: of the network in the same step.
        """
        groups: dict[tuple[Kind, bool], list[Row]] = {}
        for row in rows:
            groups.setdefault((row.kind, row.control > 0.0), []).append(row)
        predictions: dict[tuple[int, bool], Tensor] = {}
        for ((part, branch), controlled), members in groups.items():
            worked[((part, branch), controlled), calls_before] += len(members)
            inputs = self._inputs(part, members)
            if controlled and part in CONTROLLED:
                inputs, part = (*inputs, *self._residuals(part, branch, members)), CONTROLLED[part]
            output, *features = self.graphs.run(part, inputs, branch)
            for place, row in enumerate(members):
                predictions[id(row.frame), row.negative] = row.state.restate(row, output[place])
                row.state.keep(row, tuple(feature[place] for feature in features))
        return predictions

    def _inputs(self, part: str, rows: Sequence[Row]) -> tuple[Tensor, ...]:
        """What a UNet pass takes of these rows; every tensor has one row each along its first dimension."""
        x = stack([row.frame.x for row in rows])  # [B, C, h, w]
        modulation = stack([row.condition.modulation(row.frame.timestep, self._modulation) for row in rows])  # [B, M]
        embedding = stack([self._tokens(row) for row in rows])  # [B, L, D]
        features = (stack(values) for values in zip(*(row.features for row in rows), strict=True))
        return (modulation, embedding, *features) if part == "decoder" else (x, modulation, embedding, *features)

    def _modulation(self, timestep: int, condition: Condition) -> Tensor:
        """What the UNet's resnets are told under a condition at a timestep: [M]."""
        t = torch.tensor([self.schedule.told(timestep)])
        return self.graphs.run("modulate", (t, condition.embedding[None], *(value[None] for value in condition.added)))[0][0]

    def _tokens(self, row: Row) -> Tensor:
        """A row's text, and behind it what it is told of a picture, where the UNet has an adapter for that."""
        if self._no_picture is None:
            return row.condition.embedding
        return torch.cat([row.condition.embedding, self._no_picture if row.picture is None else row.picture])

    def _residuals(self, part: str, branch: int | None, rows: Sequence[Row]) -> tuple[Tensor, ...]:
        """What the ControlNet adds in a pass of these rows."""
        x = stack([row.frame.x for row in rows])
        t = torch.tensor([self.schedule.told(row.frame.timestep) for row in rows])
        text = stack([row.condition.embedding for row in rows])
        hint = stack([row.frame.hint for row in rows if row.frame.hint is not None])  # [B, 3, H, W]
        scale = torch.tensor([row.control for row in rows])
        added = (stack(values) for values in zip(*(row.condition.added[:2] for row in rows), strict=True))
        pooled = tuple(added) if self.graphs.parts.pooled_size is not None else ()
        return self.graphs.run("control", (x, t, text, hint, scale, *pooled), branch if part in SHORT else None)


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """torch.stack, without the copy for a single one."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(list(tensors))
