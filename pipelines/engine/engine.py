"""The streaming engine: frames of all sessions in, pictures out, one UNet call for all.

One way through it: `advance` makes a turn of each entry (turn.py), `StepRunner` (step.py) takes the turns through encoder, UNet
and decoder. The rows of a UNet call come from the planner (rows.py), the mathematics of a level are in levels.py. `step` and
`advance` are called from one thread; the engine has no clock but the stopwatch of its own stages, no sockets, no threads.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipelines.checkpoints.loader import loras_in_use
from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.checkpoints.loader.unet_config import native_size
from pipelines.checkpoints.naming import describe, with_loras
from pipelines.engine import device, forecast, refining
from pipelines.engine.conditioner import Conditioner
from pipelines.engine.decoding import PictureDecoder, Safety
from pipelines.engine.graph_choice import GraphChoice
from pipelines.engine.levels import Levels
from pipelines.engine.passes import Passes
from pipelines.engine.picture_prompt import PictureReader
from pipelines.engine.refining import Refinement
from pipelines.engine.rows import AssumedKeys, RowPlanner
from pipelines.engine.state import StreamState
from pipelines.engine.step import StepRunner
from pipelines.engine.turn import Entry, Turn
from pipelines.engine.understanding import Understanding, understand
from pipelines.engine.work import Work
from pipelines.graphs import memory
from pipelines.graphs.backends import selection
from pipelines.graphs.graphs import Graphs
from pipelines.graphs.keys import GraphKey
from pipelines.graphs.texts import Texts
from pipelines.networks import picture_prompt
from pipelines.techniques import guidance, hires, regions, stitch
from pipelines.techniques.noise import SessionNoise
from pipelines.techniques.refinement import refined as refinement_settings
from pipelines.values.models import ModelInfo
from pipelines.values.settings import Settings
from pipelines.values.style_names import StyleNames
from pipelines.values.types import Frame, GpuPath, GraphLimits, Output, SettingsError, SpecError, StreamSpec

log = logging.getLogger("rill")


@dataclass(frozen=True, slots=True)
class LoraChange:
    """The spec with other LoRAs, and what makes them of the present ones."""

    spec: StreamSpec
    planned: loras_in_use.LoraChange


class StreamPipeline:
    """What all sessions share: weights, graphs, encoded prompts. One per StreamSpec; make it with `load`."""

    def __init__(
        self,
        spec: StreamSpec,
        parts: ModelParts,
        cache_dir: Path | None,
        safety: Safety | None = None,
        path: GpuPath = GpuPath(),  # noqa: B008 - frozen
        graphs: GraphLimits = GraphLimits(),  # noqa: B008 - frozen
    ) -> None:
        self.spec = spec
        self.info: ModelInfo = parts.info
        self.graphs = Graphs(parts, spec, selection.create(spec, cache_dir, path, graphs.disk), graphs.memory)
        self.transfer = device.of(self.graphs.backend.device, path)
        self.schedule = parts.schedule
        self.branches = parts.branches
        to_device = self.transfer.to_device
        self._texts = Texts(parts, self.graphs.backend)
        self.conditioner = Conditioner(parts, (spec.width, spec.height), to_device, self._texts)
        self._choice = GraphChoice(self.graphs, self._chunks, self.conditioner.count)
        no_picture = picture_prompt.empty_suffix(parts.picture_tokens, parts.embedding_shape[1])
        passes = Passes(self.graphs, self.schedule, None if no_picture is None else to_device(no_picture))
        self._levels = levels = Levels(self.schedule, to_device, self.transfer.read, path.kernels)
        decode = PictureDecoder(self.graphs, self.transfer, safety)
        self._step = StepRunner(self.graphs, self.transfer, self._choice, self.conditioner, passes, levels, decode)

    @property
    def work(self) -> Work:
        """The rows of the last step, by call."""
        return self._step.work

    @property
    def measured(self) -> list[tuple[Work, float]] | None:
        """Work and seconds of each stage of the newest step that has just ended; None where none has since the last step."""
        return self._step.measured

    @property
    def max_steps(self) -> int:
        """The most steps that this model and spec allow."""
        return min(self.spec.max_steps, self.info.max_steps)

    def check(self, settings: Settings) -> None:
        """Raises SettingsError for what this model or spec cannot do."""
        if settings.steps > self.max_steps:
            raise SettingsError("steps", f"{settings.steps} is out of range; this stream allows 1 to {self.max_steps}")
        if settings.cache.branch >= self.branches:
            raise SettingsError(
                "cache.branch", f"{settings.cache.branch} is out of range; this model has branches 0 to {self.branches - 1}"
            )
        most = self.graphs.parts.max_clip_skip
        if settings.clip_skip > most:
            raise SettingsError("clip_skip", f"{settings.clip_skip} is out of range; this model allows 0 to {most}")
        self.schedule.timesteps(settings.strength, settings.steps, self.schedule.resolved(settings.solver))

    def open(self, settings: Settings) -> StreamState:
        """A fresh session. Cheap; raises SettingsError."""
        self.check(settings)
        noise = SessionNoise(settings.seed, self.graphs.latent_shape, self.transfer.to_device)
        return StreamState(noise, self.graphs.parts.beside == "mask")

    def understood(self, settings: Settings, names: StyleNames = StyleNames()) -> Understanding:  # noqa: B008 - immutable
        """How the prompts of these settings are read, and where they are cut. names: styles that they may name. Any thread; takes
        milliseconds."""
        return understand(self.graphs.parts, self._texts.length, settings, names, self._choice.waiting(settings, names))

    def _chunks(self, settings: Settings) -> int:
        """How many chunks the longest prompt takes that these settings use."""
        if self.graphs.parts.has_words:
            return 1
        used = [
            *([part.text for part in regions.of(settings)] or [settings.prompt]),
            settings.prompt_b if settings.blend else "",
            settings.negative if guidance.active(settings) else "",
        ]
        parts = self.graphs.parts
        return max(self._texts.length(parts.read_prompt(words)[0]).chunks for words in used)

    @property
    def loras(self) -> list[str]:
        """What of each LoRA's file is used, and what is not."""
        return [f"{lora.name}: {lora.summary}" for lora in self.graphs.parts.loras]

    @property
    def hires_choices(self) -> tuple[str, ...]:
        """The values of `StreamSpec.hires` that this model can take; at which sizes, the check of a spec says."""
        return hires.choices(self.graphs.parts.unet_config)

    @property
    def pictures(self) -> PictureReader:
        """Reads picture prompts; from any thread."""
        return self.conditioner.pictures

    def graphs_for(
        self,
        settings: Settings,
        sessions: int = 1,
        pictured: bool = False,
        names: StyleNames = StyleNames(),  # noqa: B008 - immutable
    ) -> tuple[GraphKey, ...]:
        """The graphs that these settings use best; each may be built by `graphs.build` in any thread while streaming goes on.
        pictured: there is a picture prompt. names: styles that prompts may name."""
        return self._choice.keys(settings, sessions, pictured, names)

    def prepare(self, settings: Settings, sessions: int = 1, pictured: bool = False) -> None:
        """Build now whatever these settings need, so that no step waits for it. Slow the first time."""
        needed = self.graphs_for(settings, sessions, pictured)
        self.graphs.need(needed)
        for key in needed:
            self.graphs.build(key)
        with self.transfer.lane("denoise"):
            self.conditioner.prepare(settings, pictured)

    def rehearse(self, settings: Settings, sessions: int = 1) -> None:
        """Build what these settings need and run one picture through, so that what would break at the first frame breaks here.

        May be called in another thread before the first step.
        """
        self.prepare(settings, sessions)
        state, grey = self.open(settings), np.full((self.spec.height, self.spec.width, 3), 128, np.uint8)
        for index in range(settings.steps):
            self.step([Entry(state, Frame(index, 0.0, grey), settings)])

    def demand(self, state: StreamState | None, frame: Frame | None, settings: Settings) -> Work:
        """The rows, by call, that a step with this frame will need for this session (None: one that has not begun). Where its
        turn has begun, the rest of it, with the settings of its first entry."""
        turn: Turn | None = None if state is None else state.turn
        settings = settings if turn is None else turn.entry.settings
        cache, residuals = ({}, {}) if state is None else (state.cache, state.residuals)
        seen = (False, StyleNames()) if state is None else (state.pictured, state.names)
        prompts = self.conditioner.count(settings, seen[1])
        ready, first = self._choice.cache_ready(settings), self._choice.first(settings)
        planner = RowPlanner(settings, cache, residuals, AssumedKeys(), ready, prompts, first)
        paints = self._choice.paints(settings, *seen)
        if turn is not None:
            return forecast.of_turn(turn, planner, paints)
        controlled = frame is not None and self._choice.controls(frame, settings)
        plan = None if state is None else self._step.partial.plan(state, frame, settings)
        return forecast.of_frame(state, frame, settings, planner, controlled, paints, self.schedule, plan)

    def step(self, entries: Sequence[Entry]) -> list[Output]:
        """One answer per entry, in order; frames of different sessions, prompts and noise levels share each UNet call.

        If it raises, no frame was admitted and none has moved: the same entries may be stepped again, one by one.
        """
        outputs = [output for output in self.advance(entries) if output is not None]
        if len(outputs) < len(entries):
            raise ValueError("an entry that limits its rows is for `advance`")
        return outputs

    def advance(self, entries: Sequence[Entry]) -> list[Output | None]:
        """As `step`, but no more than `rows` of each entry's work is done. None for a turn that is not over: it goes on with the
        next entry of its state. If it raises, no frame of these turns was admitted, in an earlier part neither.
        """
        if torch.get_num_threads() != self.graphs.backend.torch_threads:
            torch.set_num_threads(self.graphs.backend.torch_threads)
        turns = []
        for entry in entries:
            if entry.state.turn is None:
                entry.state.turn = Turn(entry, entry.state.ring.save())
            turns.append(entry.state.turn)
            turns[-1].left = math.inf if entry.rows is None else entry.rows
        try:
            with self.graphs.resident.step():
                return self._step.run(turns)
        except BaseException:
            for turn in turns:
                turn.undo()
            raise

    @torch.inference_mode()
    def refinement(self, state: StreamState, settings: Settings) -> Refinement | None:
        """What refines the picture that a session shows, for `refine`; None where nothing can. settings: of that picture."""
        with self.transfer.lane("denoise"):
            first = self._choice.first(refinement_settings(settings, self.max_steps))
            share = 0.0 if first is None else first.share
            return refining.begun(state, settings, self.max_steps, self.schedule, self._levels, share)

    def refine(self, refinement: Refinement, shows: bool = True) -> Output | None:
        """Take a refinement one level on, in the thread of `step`. Returns its picture; None where it is not over and `shows` is
        False. If it raises, it is of no more use; the session is as it was."""
        refinement.shows, refinement.may_begin = shows, True
        with self.graphs.resident.step():
            return self._step.run([refinement])[0]

    def lora_change(self, spec: StreamSpec, offline: bool = False) -> LoraChange | None:
        """What makes the pipeline of `spec` of this one in place; None where a new pipeline is needed: the specs differ in more
        than LoRAs, or graphs have to be built for them. Any thread. offline: no LoRA is downloaded. Raises ModelError."""
        if spec == self.spec or dataclasses.replace(spec, loras=self.spec.loras) != self.spec:
            return None
        planned = self.graphs.parts.adapted.planned(with_loras(describe(spec.model), spec.loras), offline)
        return None if planned is None else LoraChange(spec, planned)

    def change_loras(self, change: LoraChange) -> LoraChange:
        """Change the LoRAs of the networks that run: in the thread of `step`, between two steps. Returns the change back. States
        that are open keep features of the networks before: open new ones. All or nothing. Raises ModelError."""
        back = LoraChange(self.spec, self.graphs.parts.adapted.apply(change.planned))
        self.spec, self.info = change.spec, self.graphs.parts.info
        self.conditioner.forget()
        return back

    def close(self) -> None:
        """Release graphs and weights."""
        self.graphs.clear()


def _stitch(parts: ModelParts, spec: StreamSpec, offline: bool) -> None:
    """Locate and check the second, smaller model of a spec. Raises ModelError, and SpecError where it does not fit."""
    if not spec.stitch:
        return
    small = ModelParts(describe(spec.stitch), offline)
    obstacles = {
        "a ControlNet": parts.has_control,
        "an adapter for picture prompts": parts.picture_tokens > 0,
        "hires": spec.hires != "off",
    }
    stitch.check(spec.stitch, parts.shared, small.shared, obstacles)
    parts.small = small


def load(
    spec: StreamSpec,
    cache_dir: Path | None = None,
    offline: bool = False,
    safety: Safety | None = None,
    path: GpuPath = GpuPath(),  # noqa: B008 - frozen
    graphs: GraphLimits = GraphLimits(),  # noqa: B008 - frozen
    warm: bool = True,
) -> StreamPipeline:
    """The pipeline of a spec. Slow: reads the model, downloads it first where it must, and builds the graphs of a plain stream.

    cache_dir: where compiled graphs stay between starts; None keeps nothing. offline: nothing is downloaded. safety: what it
    flags is shown black. path: parts of the way through a GPU, for benchmarks. graphs: what more graphs may take. warm: False
    builds no graph and encodes no prompt. Raises SpecError, ModelError, and MemoryShortError before anything is read that would
    not fit.
    """
    resolved = selection.resolve(spec)
    parts = ModelParts(with_loras(describe(spec.model), spec.loras), offline)
    for lora in parts.loras:
        log.log(logging.WARNING if lora.notes else logging.INFO, "LoRA %s: %s", lora.name, lora.summary)
    for name in ("width", "height"):
        if getattr(spec, name) % parts.size_multiple:
            raise SpecError(name, f"{getattr(spec, name)} does not fit this model; multiples of {parts.size_multiple} do")
    _stitch(parts, resolved, offline)
    parts.hires = hires.chosen(resolved, parts.unet_config, native_size(parts.unet_config), parts.has_control)
    selection.check_calibrated(resolved, bool(parts.calibration))
    selection.check_compressible(resolved, parts.network_files)
    selection.check_halves(resolved, parts.size_multiple, bool(parts.control_files or parts.picture_tokens))
    in_place, beside = selection.lora_ways(resolved.backend, resolved.dtype)
    alone = not resolved.patch_devices  # a worker has its own weights
    parts.adapted.in_place = in_place and alone
    if beside and alone:
        parts.branch(len(spec.loras))
    needs = memory.estimate_of(parts, resolved)
    memory.require(memory.with_graphs(needs, graphs.memory or 0), memory.free_bytes)
    pipeline = StreamPipeline(resolved, parts, cache_dir, safety, path, graphs)
    if warm:
        pipeline.prepare(Settings())
    if graphs.memory is None:
        pipeline.graphs.resident.budget = memory.default_graphs(needs, memory.free_bytes(resolved.device))
    return pipeline
