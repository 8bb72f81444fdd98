"""Runs rows through the UNet and, where there is one, the ControlNet. Reads rows, changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pipelines.engine.conditioner import Conditioning
from pipelines.engine.levels import stack
from pipelines.engine.rows import Row
from pipelines.engine.work import Pass
from pipelines.graphs.graphs import Graphs
from pipelines.graphs.keys import CONTROLLED, GraphKey, with_control
from pipelines.networks import picture_prompt
from pipelines.techniques import hires
from pipelines.techniques.conditioning import Condition
from pipelines.techniques.feature_cache import SHORT
from pipelines.techniques.partial import ALIGN
from pipelines.techniques.schedule import Schedule


@dataclass(frozen=True, slots=True)
class RowInput:
    """A row with the conditioning of its session. stream: the session's number, which no other has."""

    row: Row
    conditioning: Conditioning
    stream: int = 0

    @property
    def condition(self) -> Condition:
        return self.conditioning.of(self.row.frame, self.row.negative, self.row.part)

    @property
    def kind(self) -> Pass:
        """Rows of one kind share a call."""
        return self.row.kind, self.row.controlled(self.conditioning.control_scale)

    @property
    def picture(self) -> Tensor | None:
        """The tokens that follow the text for a picture prompt, [T + 1, D]."""
        scale = self.conditioning.picture_scale
        if self.row.frame.picture is None or not scale:
            return None
        return picture_prompt.suffix(self.row.frame.picture[self.row.negative], scale)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the UNet made of one row: its output [C, h, w], and the features that the pass kept."""

    row: Row
    output: Tensor
    features: tuple[Tensor, ...]


class Passes:
    """The UNet and the ControlNet of one pipeline. no_picture: tokens [T, D] for a row without a picture prompt, where the UNet
    has an adapter for picture prompts."""

    def __init__(self, graphs: Graphs, schedule: Schedule, no_picture: Tensor | None) -> None:
        self._graphs, self._schedule, self._no_picture = graphs, schedule, no_picture

    def predict(self, inputs: Sequence[RowInput]) -> list[Prediction]:
        """The predictions of these rows, in order. Rows of one kind of pass share calls, whatever session they belong to."""
        groups: dict[tuple[Pass, int], list[int]] = {}
        for place, one in enumerate(inputs):
            groups.setdefault((one.kind, self._chunks(one)), []).append(place)
        found: dict[int, Prediction] = {}
        for (kind, chunks), places in groups.items():
            output, *features = self._run(kind, [inputs[place] for place in places], chunks)
            for index, place in enumerate(places):
                kept = tuple(feature[index] for feature in features)
                found[place] = Prediction(inputs[place].row, output[index], kept)
        return [found[place] for place in range(len(inputs))]

    def _chunks(self, one: RowInput) -> int:
        """How many chunks of a row's text count: the first alone, as long as graphs for all of them are not ready."""
        (part, branch), controlled = one.kind
        count = one.condition.embedding.shape[0] // self._length
        if count == 1:
            return 1
        key = GraphKey(part, 1, branch, count)
        needed = (with_control(key, self._graphs.parts.inside) if controlled else ()) or (key,)
        return count if all(map(self._graphs.ready, needed)) else 1

    @property
    def _length(self) -> int:
        """Tokens of one chunk."""
        return self._graphs.parts.embedding_shape[0]

    def _run(self, kind: Pass, inputs: Sequence[RowInput], chunks: int) -> tuple[Tensor, ...]:
        """One kind of pass for these rows: the output [B, C, h, w], then the features."""
        (part, branch), controlled = kind
        tensors = self._tensors(part, inputs, chunks)
        if controlled and with_control(GraphKey(part, 1, branch), self._graphs.parts.inside):
            tensors, part = (*tensors, *self._residuals(part, branch, inputs, chunks)), CONTROLLED[part]
        if self._graphs.patches is None:
            return self._graphs.run(part, tensors, branch, chunks)
        return self._graphs.run(part, tensors, branch, chunks, [(one.stream, *one.row.slot) for one in inputs])

    def _tensors(self, part: str, inputs: Sequence[RowInput], chunks: int) -> tuple[Tensor, ...]:
        """The inputs of a UNet pass; every tensor has one row each along its first dimension."""
        x = stack([one.row.frame.taken for one in inputs])  # [B, C, h, w]
        network = "small-modulate" if part == "small" else "modulate"
        compute = partial(self._modulation, network)
        modulation = stack([one.condition.modulation(one.row.frame.timestep, compute, network) for one in inputs])  # [B, M]
        embedding = stack([self._tokens(one, chunks) for one in inputs])  # [B, L, D]
        features = (stack(values) for values in zip(*(one.row.features for one in inputs), strict=True))
        if part == "decoder" and not self._graphs.parts.gated:
            return modulation, embedding, *features
        return (x, modulation, embedding, *features, *((_origins(inputs),) if part == "window" else ()))

    def _modulation(self, network: str, timestep: int, condition: Condition) -> Tensor:
        """The scales and shifts of the UNet's resnets under a condition at a timestep: [M], or [M + 1] with that of windows."""
        t = torch.tensor([self._schedule.model_timestep(timestep)])
        added = (value[None] for value in condition.added)
        made = self._graphs.run(network, (t, condition.embedding[None, : self._length], *added))[0][0]
        return torch.cat([made, made.new_tensor([hires.shift(timestep, self._schedule.length)])]) if self._graphs.shifts else made

    def _tokens(self, one: RowInput, chunks: int) -> Tensor:
        """A row's text, followed by its picture's tokens where the UNet has an adapter for them."""
        text = one.condition.embedding[: chunks * self._length]
        if self._no_picture is None:
            return text
        picture = one.picture
        return torch.cat([text, self._no_picture if picture is None else picture])

    def _residuals(self, part: str, branch: int | None, inputs: Sequence[RowInput], chunks: int) -> tuple[Tensor, ...]:
        """What the ControlNet adds in a pass of these rows."""
        parts, taken = self._graphs.parts, branch if part in SHORT else None
        hint = stack([one.row.frame.hint for one in inputs if one.row.frame.hint is not None])  # [B, 3n, H, W]
        scale = torch.tensor([one.conditioning.control_scale for one in inputs])
        if parts.inside is not None:
            return self._graphs.run("control", (hint, scale), taken)
        x = stack([one.row.frame.x for one in inputs])
        t = torch.tensor([self._schedule.model_timestep(one.row.frame.timestep) for one in inputs])
        text = stack([one.condition.embedding[: chunks * self._length] for one in inputs])
        kinds = (stack([one.row.frame.kinds for one in inputs if one.row.frame.kinds is not None]),) if parts.takes_maps else ()
        added = (stack(values) for values in zip(*(one.condition.added[:2] for one in inputs), strict=True))
        pooled = tuple(added) if parts.pooled_size is not None else ()
        return self._graphs.run("control", (x, t, text, hint, scale, *kinds, *pooled), taken, chunks)


def _origins(inputs: Sequence[RowInput]) -> Tensor:
    """Where each row's window begins, [B, 2], as WindowPass takes it."""
    windows = (one.row.frame.window for one in inputs)
    return torch.tensor([[one.top // ALIGN, one.left // ALIGN] for one in windows if one is not None])
