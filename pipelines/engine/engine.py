"""The streaming engine: frames of all sessions in, pictures out, one UNet call for everybody.

`step` is the whole recipe: encode, admit, denoise level by level, let finished frames out, decode. It is called from one thread;
it knows no clock but the stopwatch of its own stages, no sockets, no threads.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kernels.stream_step import stream_step
from pipelines.checkpoints.loader import ModelParts
from pipelines.checkpoints.naming import describe, with_loras
from pipelines.engine import device, forecast
from pipelines.engine.decoding import PictureDecoder, Safety
from pipelines.engine.passes import Passes, stack
from pipelines.engine.state import Move, Row, StreamState
from pipelines.engine.turn import Entry, Turn
from pipelines.engine.work import DECODE, ENCODE, PAINT, Work, stages
from pipelines.graphs import memory
from pipelines.graphs.backends import selection
from pipelines.graphs.graphs import GraphKey, Graphs, steered
from pipelines.networks import picture_prompt
from pipelines.techniques import feature_cache, guidance, hints, probe
from pipelines.techniques.conditioning import Additions, Condition, Conditions, PromptCache, Text
from pipelines.techniques.noise import SessionNoise
from pipelines.techniques.stream_batch import InFlight
from pipelines.values.models import ModelInfo
from pipelines.values.settings import Settings
from pipelines.values.types import (
    Frame,
    GpuPath,
    GraphLimits,
    Output,
    Picture,
    Pixels,
    SettingsError,
    SpecError,
    StageTimings,
    StreamSpec,
    Verdict,
)


class StreamPipeline:
    """What all sessions share: weights, graphs, remembered prompts. One per StreamSpec; make it with `load`."""

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
        self._decode = PictureDecoder(self.graphs, self.transfer, safety)
        self._kernels = path.kernels
        self.schedule = parts.schedule
        self.branches = parts.branches
        self.worked: Work = Counter()  # rows that the last step took, by call
        self._recent: deque[Work] = deque(maxlen=8)
        self._unmeasured = 0
        # Rows and seconds of each stage of the newest step that has just ended.
        self.measured: list[tuple[Work, float]] | None = None
        place = self.transfer.place
        nothing = picture_prompt.none(parts.picture_tokens, parts.embedding_shape[1])
        self._passes = Passes(self.graphs, self.schedule, None if nothing is None else place(nothing))
        # Asked for anew each time: the encoders are read at the first prompt, when the networks are no longer read.
        self._prompts = PromptCache(self._text)
        time_ids = parts.time_ids(spec.width, spec.height)
        additions = Additions(None if time_ids is None else place(time_ids), parts.w_size, parts.empty_is_zero)
        self._conditions = Conditions(additions)

    def check(self, settings: Settings) -> None:
        """Raises SettingsError for what this model or spec cannot do."""
        limit = min(self.spec.max_steps, self.info.max_steps)
        if settings.steps > limit:
            raise SettingsError("steps", f"{settings.steps} is out of range; this stream allows 1 to {limit}")
        if settings.cache.branch >= self.branches:
            raise SettingsError(
                "cache.branch", f"{settings.cache.branch} is out of range; this model has branches 0 to {self.branches - 1}"
            )
        self.schedule.timesteps(settings.strength, settings.steps)

    def open(self, settings: Settings) -> StreamState:
        """A fresh session. Cheap; raises SettingsError."""
        self.check(settings)
        place, read = self.transfer.place, self.transfer.read
        return StreamState(SessionNoise(settings.seed, self.graphs.latent_shape, place), self.schedule, place, read)

    def graphs_for(self, settings: Settings, sessions: int = 1) -> tuple[GraphKey, ...]:
        """The graphs that these settings use best; each may be built by `graphs.build` in any thread while streaming goes on."""
        rows = sessions * guidance.rows(settings, settings.steps if settings.stream_batch.enabled else 1)
        layout = self.graphs.backend.layout
        plain = [(feature_cache.PLAIN, size) for size in layout.wanted(rows)]
        # With the cache the rows of one call fall into two groups, of any size.
        caching = feature_cache.passes(settings.cache) if settings.cache.enabled else ()
        grouped = [(kind, size) for kind in caching for size in layout.buckets if size <= rows]
        passes = [GraphKey(part, size, branch) for (part, branch), size in (*plain, *grouped)]
        return (*self._outside(settings, sessions), *self._steered(passes, settings))

    def _outside(self, settings: Settings, sessions: int) -> tuple[GraphKey, ...]:
        """The graphs around the UNet's."""
        sizes = self.graphs.backend.layout.wanted(sessions)
        parts = ("encode", "decode", "paint") if self._painted(settings) else ("encode", "decode")
        return (*(GraphKey(part, size) for part in parts for size in sizes), GraphKey("modulate", 1))

    def _painted(self, settings: Settings) -> bool:
        """Whether these settings ask for paint."""
        read = self.graphs.parts.styles.read
        return settings.style.amount > 0.0 and any(read(words)[1] for words in (settings.prompt, settings.prompt_b))

    def _steered(self, passes: Sequence[GraphKey], settings: Settings) -> list[GraphKey]:
        """These passes, and where a ControlNet has a say those that take its residuals, and its own."""
        if not (self.graphs.parts.has_control and settings.control.scale):
            return list(passes)
        needed = [needed for key in passes for needed in steered(key)]
        return list(dict.fromkeys([*(key for key in passes if key.rows == 1 or key.part == "decoder"), *needed]))

    def prepare(self, settings: Settings, sessions: int = 1) -> None:
        """Build now whatever these settings need, so that no step pays for it. Slow the first time."""
        needed = self.graphs_for(settings, sessions)
        self.graphs.need(needed)
        for key in needed:
            self.graphs.build(key)
        with self.transfer.lane("denoise"):
            self._prompts.blend(settings)
        if self.graphs.parts.picture_tokens:
            _ = self.graphs.parts.look  # reads the picture encoder, which no step shall wait for

    def rehearse(self, settings: Settings, sessions: int = 1) -> None:
        """Build what these settings need and run one picture through: what would break at the first frame does so here.

        May be called in another thread before the first step.
        """
        self.prepare(settings, sessions)
        state, grey = self.open(settings), np.full((self.spec.height, self.spec.width, 3), 128, np.uint8)
        for index in range(settings.steps):
            self.step([Entry(state, Frame(index, 0.0, grey), settings)])

    def demand(self, state: StreamState | None, frame: Frame | None, settings: Settings) -> Work:
        """The rows that a step with this frame will need for this session (None: one that has not begun), by call; where its turn
        has begun, what is left of it."""
        if state is not None and state.turn is not None:
            settings = state.turn.entry.settings
        controlled = bool(settings.control.scale) and self.graphs.parts.has_control
        if state is not None and state.turn is not None:
            return forecast.rest(state.turn, controlled, self._painted(settings))
        return forecast.work(state, frame, settings, controlled, self._painted(settings))

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
            with self.graphs.held.step():
                return self._advance(turns)
        except BaseException:
            for turn in turns:
                turn.undo()
            raise

    @torch.inference_mode()
    def _advance(self, turns: Sequence[Turn]) -> list[Output | None]:
        fresh = [turn for turn in turns if turn.conditions is None]
        for turn in fresh:
            self._probe(turn.entry)
        self.worked = Counter()
        self.transfer.begin()
        latents = self._encode(fresh)
        with self.transfer.lane("denoise", *latents.values()):
            self._admit([turn.entry for turn in fresh], latents)
            for turn in fresh:
                turn.conditions = self._told(turn.entry)
            self._denoise(turns)
            over = [turn for turn in turns if turn.ends()]
            for turn in over:
                turn.departure = turn.entry.state.ring.depart()
        leaving = [(turn.departure.frame, finished) for turn in over if (finished := turn.finished()) is not None]
        made = self._decode([finished for _, finished in leaving])
        for _, finished in leaving:
            self.worked[PAINT if self._decode.paints(finished) else DECODE] += 1
        pictures = {id(frame): picture for (frame, _), picture in zip(leaving, made, strict=True)}
        timings = self.transfer.end()
        self._note(timings)
        for turn in turns:
            turn.took(timings)
            turn.entry.state.probe.worked(timings.encode + timings.denoise + timings.decode, turn.entry.settings.probe)
        for turn in over:
            turn.entry.state.turn = None
        return [self._output(turn, pictures) if turn in over else None for turn in turns]

    def _note(self, timings: StageTimings) -> None:
        """Put the stages' time beside the rows of the step that took it: on CUDA an earlier one than was just launched."""
        self._recent.append(self.worked)
        self._unmeasured += 1
        behind, self.measured = self.transfer.behind, None
        if 0 <= behind < self._unmeasured:  # else no other step is over since the last time
            self._unmeasured = behind
            self.measured = stages(self._recent[-1 - behind], timings)

    def _probe(self, entry: Entry) -> None:
        """Make the unaccelerated picture of the entry's frame, if its session's probe asks for one now."""
        state, frame = entry.state, entry.frame
        if frame is None or not state.probe.due(entry.settings.probe):
            return
        start = time.perf_counter()
        (answer,) = self._advance([Turn(Entry(state.shadow(), frame, probe.reference(entry.settings)), [])])
        if answer is not None and answer.pixels is not None:
            state.probe.expect(frame.id, answer.pixels, (time.perf_counter() - start) * 1000)

    def close(self) -> None:
        """Release graphs and weights."""
        self.graphs.clear()

    def _encode(self, turns: Sequence[Turn]) -> dict[int, Tensor]:
        """The clean latent [C, h, w] of each turn's frame, by its identity."""
        seen = [turn for turn in turns if turn.entry.frame is not None and turn.entry.frame.pixels is not None]
        frames = [turn.entry.frame for turn in seen if turn.entry.frame is not None]
        if not frames:
            return {}
        with self.transfer.lane("encode"):
            pixels = self.transfer.upload([self._checked(frame) for frame in frames])
            encoded = self.graphs.run("encode", (pixels,))[0]
        self.worked[ENCODE] += len(frames)
        for turn in seen:
            turn.left -= 1
        return {id(frame): latent for frame, latent in zip(frames, encoded, strict=True)}

    def _admit(self, entries: Sequence[Entry], latents: Mapping[int, Tensor]) -> None:
        for entry in entries:
            if entry.frame is not None:
                self._look(entry.state)
                hint = self._hint(entry.frame, entry.settings)
                entry.state.admit(entry.frame, latents.get(id(entry.frame)), entry.settings, hint)

    def _look(self, state: StreamState) -> None:
        """Know the tokens of a session's picture prompt."""
        if state.picture is not None and state.tokens is None and self.graphs.parts.picture_tokens:
            seen, unseen = self.graphs.parts.look(state.picture)
            state.tokens = self.transfer.place(seen), self.transfer.place(unseen)

    def _hint(self, frame: Frame, settings: Settings) -> Tensor | None:
        """The map that the ControlNet shall hold a frame to; None without one, at scale 0, and until its graphs are ready."""
        if frame.pixels is None or not settings.control.scale or not self.graphs.parts.has_control:
            return None
        if not all(map(self.graphs.ready, steered(GraphKey("full", 1)))):
            return None
        return self.transfer.place(torch.from_numpy(hints.hint(frame.pixels, settings.control.map)))

    def _checked(self, frame: Frame) -> Pixels:
        shape = (self.spec.height, self.spec.width, 3)
        if frame.pixels is None or frame.pixels.shape != shape or frame.pixels.dtype != np.uint8:
            raise ValueError(f"frame {frame.id}: pixels must be uint8 of shape {shape}")
        return frame.pixels

    def _told(self, entry: Entry) -> tuple[Condition, Condition]:
        """What the UNet is told: under the prompt, and under the negative one."""
        state, settings = entry.state, entry.settings
        text = self._prompts.blend(settings)
        if entry.frame is not None:
            text = state.travel.at(text, settings, entry.frame.captured_at)
        elif state.travel.current is not None:
            text = state.travel.current
        negative = self._conditions.additions.negative(self._prompts, settings)
        return self._conditions(text, settings), self._conditions(negative, settings)

    def _denoise(self, turns: Sequence[Turn]) -> None:
        """One UNet call moves every chosen frame one level, as far as this step goes; sequential sessions come back until their
        frame is done."""
        calls_before = 0
        while any(taken := [turn.take(self._rows) for turn in turns]):
            predictions = self._passes.predict([row for rows in taken for row in rows], self.worked, calls_before)
            calls_before += 1
            moving = [(turn, frame) for turn, rows in zip(turns, taken, strict=True) for frame in turn.learn(rows, predictions)]
            self._absorb(moving, {key: value for turn in turns for key, value in turn.predictions.items()})

    def _absorb(self, moving: Sequence[tuple[Turn, InFlight]], predictions: Mapping[tuple[int, bool], Tensor]) -> None:
        """Move every frame one level on: all that one pass can take at once, the others each for itself."""
        together: dict[str, list[tuple[Turn, InFlight, Move]]] = {}
        for turn, frame in moving:
            state, settings = turn.entry.state, turn.entry.settings
            negative = predictions.get((id(frame), True))
            move = state.move(frame, negative is not None, settings)
            if move is None:
                state.absorb(frame, predictions[id(frame), False], negative, settings)
            else:
                together.setdefault(move.kind, []).append((turn, frame, move))
        for kind, members in together.items():
            frames, moves = [frame for _, frame, _ in members], [move for _, _, move in members]
            goes_on = any(move.noise is not None for move in moves)  # a row at its last level takes anything, times 0
            noise = [frame.x if move.noise is None else move.noise for frame, move in zip(frames, moves, strict=True)]
            x0, x = stream_step(
                self.schedule.prediction,
                stack([predictions[id(frame), False] for frame in frames]),
                stack([frame.x for frame in frames]),
                [move.level for move in moves],
                stack(noise) if goes_on else None,
                stack([predictions[id(frame), True] for frame in frames]) if kind == "negative" else None,
                stack([move.known for move in moves if move.known is not None]) if kind == "known" else None,
                self._kernels,
            )
            for place, (turn, frame, _) in enumerate(members):
                turn.entry.state.settle(frame, x0[place], None if x is None else x[place])
        for turn, _ in moving:
            turn.predictions.clear()

    def _rows(self, turn: Turn) -> list[Row]:
        assert turn.conditions is not None
        settings = turn.entry.settings
        passes = [GraphKey(part, 1, branch) for part, branch in feature_cache.passes(settings.cache)]
        caching = all(map(self.graphs.ready, self._steered(passes, settings)))
        return turn.entry.state.rows(turn.moving, settings, *turn.conditions, caching)

    def _text(self, prompt: str) -> Text:
        """A prompt as the networks take it: a painted look's name becomes the painter's style."""
        words, style = self.graphs.parts.styles.read(prompt)
        place = self.transfer.place
        encoded = tuple(map(place, self.graphs.parts.encode_prompt(words)))
        return Text(encoded, None if style is None else replace(style, numbers=place(style.numbers)))

    def _output(self, turn: Turn, pictures: Mapping[int, Picture]) -> Output:
        entry, leaving, timings = turn.entry, turn.departure.frame, turn.timings
        version = entry.settings.version
        if leaving is None:
            frame_id = entry.frame.id if entry.frame is not None else -1
            return Output(frame_id, version, None, "warming", timings)
        verdict: Verdict = "cached" if leaving.reused else "generated"
        return Output(
            leaving.frame_id,
            version,
            pictures[id(leaving)],
            verdict,
            timings,
            superseded=turn.departure.superseded,
            reference=entry.state.probe.collect(leaving.frame_id),
        )


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
    for name in ("width", "height"):
        if getattr(spec, name) % parts.size_multiple:
            raise SpecError(name, f"{getattr(spec, name)} does not fit this model; multiples of {parts.size_multiple} do")
    resolved = selection.quantised(spec, resolved, bool(parts.calibration))
    needs = memory.estimate_of(parts, resolved)
    memory.require(memory.with_graphs(needs, graphs.memory or 0), memory.free_bytes)
    pipeline = StreamPipeline(resolved, parts, cache_dir, safety, path, graphs)
    if warm:
        pipeline.prepare(Settings())
    if graphs.memory is None:
        pipeline.graphs.held.budget = memory.default_graphs(needs, memory.free_bytes(resolved.device))
    return pipeline
