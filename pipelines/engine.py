"""The streaming engine: frames of all sessions in, pictures out, one UNet call for everybody.

`step` is the whole recipe: encode, admit, denoise level by level, let finished frames out, decode. It is called from one thread;
it knows no clock but the stopwatch of its own stages, no sockets, no threads.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kernels.stream_step import stream_step
from pipelines import backends, feature_cache, forecast, guidance, hints, memory, picture_prompt, probe, transfer
from pipelines.conditioning import Additions, Condition, Conditions, PromptCache, Text
from pipelines.decoding import Finished, PictureDecoder, Safety
from pipelines.graphs import GraphKey, Graphs, steered
from pipelines.loader import ModelParts
from pipelines.models import ModelInfo
from pipelines.naming import describe, with_loras
from pipelines.noise import SessionNoise
from pipelines.passes import Passes, stack
from pipelines.settings import Settings
from pipelines.state import Move, Row, StreamState
from pipelines.stream_batch import Departure, InFlight
from pipelines.types import (
    Frame,
    GpuPath,
    Output,
    Picture,
    Pixels,
    SettingsError,
    SpecError,
    StageTimings,
    StreamSpec,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One session's turn in a step. frame None lets what is in flight move on without a new frame (end of a clip)."""

    state: StreamState
    frame: Frame | None
    settings: Settings


@dataclass(slots=True)
class Turn:
    """An entry on its way through a step."""

    entry: Entry
    condition: Condition
    negative: Condition
    departure: Departure = field(default_factory=Departure)

    def finished(self) -> Finished | None:
        """What leaves the stream batch in this step, with the style that the settings ask for now."""
        frame, style = self.departure.frame, self.condition.style
        if frame is None or frame.x0 is None:
            return None
        return Finished(
            frame.x0, None if style is None else replace(style, amount=style.amount * self.entry.settings.style.amount)
        )

    def frames(self) -> list[InFlight]:
        """Whom the next UNet call serves: all in flight, or in sequential mode the newest alone until it is done."""
        ring = self.entry.state.ring.frames
        chosen = ring if self.entry.settings.stream_batch.enabled else ring[-1:]
        return [frame for frame in chosen if not frame.finished]


class StreamPipeline:
    """What all sessions share: weights, graphs, remembered prompts. One per StreamSpec; make it with `load`."""

    def __init__(
        self,
        spec: StreamSpec,
        parts: ModelParts,
        cache_dir: Path | None,
        safety: Safety | None = None,
        path: GpuPath = GpuPath(),  # noqa: B008 - frozen
    ) -> None:
        self.spec = spec
        self.info: ModelInfo = parts.info
        self.graphs = Graphs(parts, spec, backends.create(spec, cache_dir, path))
        self.transfer = transfer.of(self.graphs.backend.device, path)
        self._decode = PictureDecoder(self.graphs, self.transfer, safety)
        self._kernels = path.kernels
        self.schedule = parts.schedule
        self.branches = parts.branches
        self.worked: forecast.Work = Counter()  # rows that the last step took, by UNet call
        self._recent: deque[forecast.Work] = deque(maxlen=8)
        self._unmeasured = 0
        self.measured: tuple[forecast.Work, float] | None = None  # rows and seconds of the newest step that has just ended
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
        """The graphs around the UNet's. Pictures are worth a batch where rows are."""
        layout = self.graphs.backend.layout
        sizes = (1,) if layout.per_call is None else layout.wanted(sessions)
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
        for key in self.graphs_for(settings, sessions):
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

    def demand(self, state: StreamState | None, frame: Frame | None, settings: Settings) -> forecast.Work:
        """The rows that a step with this frame will need for this session (None: one that has not begun), by UNet call."""
        return forecast.work(state, frame, settings, bool(settings.control.scale) and self.graphs.parts.has_control)

    def step(self, entries: Sequence[Entry]) -> list[Output]:
        """One answer per entry, in order; frames of different sessions, prompts and noise levels share each UNet call.

        If it raises, no frame was admitted and none has moved: the same entries may be stepped again, one by one.
        """
        if torch.get_num_threads() != self.graphs.backend.torch_threads:
            torch.set_num_threads(self.graphs.backend.torch_threads)
        saved = [entry.state.ring.save() for entry in entries]
        try:
            return self._step(entries)
        except BaseException:
            for entry, frames in zip(entries, saved, strict=True):
                entry.state.ring.restore(frames)
            raise

    @torch.inference_mode()
    def _step(self, entries: Sequence[Entry]) -> list[Output]:
        for entry in entries:
            self._probe(entry)
        self.worked = Counter()
        self.transfer.begin()
        latents = self._encode([entry.frame for entry in entries if entry.frame is not None and entry.frame.pixels is not None])
        with self.transfer.lane("denoise", *latents.values()):
            self._admit(entries, latents)
            turns = [self._turn(entry) for entry in entries]
            self._denoise(turns)
            for turn in turns:
                turn.departure = turn.entry.state.ring.depart()
        leaving = [(turn.departure.frame, finished) for turn in turns if (finished := turn.finished()) is not None]
        made = self._decode([finished for _, finished in leaving])
        pictures = {id(frame): picture for (frame, _), picture in zip(leaving, made, strict=True)}
        timings = self.transfer.end()
        self._note(timings)
        for entry in entries:
            entry.state.probe.worked(timings.encode + timings.denoise + timings.decode, entry.settings.probe)
        return [self._output(turn, pictures, timings) for turn in turns]

    def _note(self, timings: StageTimings) -> None:
        """Put the stages' time beside the rows of the step that took it: on CUDA an earlier one than was just launched."""
        self._recent.append(self.worked)
        self._unmeasured += 1
        behind, self.measured = self.transfer.behind, None
        if 0 <= behind < self._unmeasured:  # else no other step is over since the last time
            self._unmeasured = behind
            self.measured = self._recent[-1 - behind], (timings.encode + timings.denoise + timings.decode) / 1000

    def _probe(self, entry: Entry) -> None:
        """Make the unaccelerated picture of the entry's frame, if its session's probe asks for one now."""
        state, frame = entry.state, entry.frame
        if frame is None or not state.probe.due(entry.settings.probe):
            return
        start = time.perf_counter()
        (answer,) = self._step([Entry(state.shadow(), frame, probe.reference(entry.settings))])
        if answer.pixels is not None:
            state.probe.expect(frame.id, answer.pixels, (time.perf_counter() - start) * 1000)

    def close(self) -> None:
        """Release graphs and weights."""
        self.graphs.clear()

    def _encode(self, frames: Sequence[Frame]) -> dict[int, Tensor]:
        """The clean latent [C, h, w] of each frame, by its identity."""
        if not frames:
            return {}
        with self.transfer.lane("encode"):
            pixels = self.transfer.upload([self._checked(frame) for frame in frames])
            encoded = self.graphs.run("encode", (pixels,))[0]
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

    def _turn(self, entry: Entry) -> Turn:
        state, settings = entry.state, entry.settings
        text = self._prompts.blend(settings)
        if entry.frame is not None:
            text = state.travel.at(text, settings, entry.frame.captured_at)
        elif state.travel.current is not None:
            text = state.travel.current
        negative = self._conditions.additions.negative(self._prompts, settings)
        return Turn(entry, self._conditions(text, settings), self._conditions(negative, settings))

    def _denoise(self, turns: Sequence[Turn]) -> None:
        """One UNet call moves every chosen frame one level; sequential sessions come back until their frame is done."""
        waiting, calls_before = [turn for turn in turns if turn.frames()], 0
        while waiting:
            moving = [(turn, frame) for turn in waiting for frame in turn.frames()]
            rows = [row for turn in waiting for row in self._rows(turn)]
            predictions, calls_before = self._passes.predict(rows, self.worked, calls_before), calls_before + 1
            self._absorb(moving, predictions)
            waiting = [turn for turn in waiting if not turn.entry.settings.stream_batch.enabled and turn.frames()]

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

    def _rows(self, turn: Turn) -> list[Row]:
        settings = turn.entry.settings
        passes = [GraphKey(part, 1, branch) for part, branch in feature_cache.passes(settings.cache)]
        caching = all(map(self.graphs.ready, self._steered(passes, settings)))
        return turn.entry.state.rows(turn.frames(), settings, turn.condition, turn.negative, caching)

    def _text(self, prompt: str) -> Text:
        """A prompt as the networks take it: a painted look's name becomes the painter's style."""
        words, style = self.graphs.parts.styles.read(prompt)
        place = self.transfer.place
        encoded = tuple(map(place, self.graphs.parts.encode_prompt(words)))
        return Text(encoded, None if style is None else replace(style, numbers=place(style.numbers)))

    def _output(self, turn: Turn, pictures: Mapping[int, Picture], timings: StageTimings) -> Output:
        entry, leaving = turn.entry, turn.departure.frame
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
) -> StreamPipeline:
    """The pipeline of a spec. Slow: reads the model, downloads it first where it must, and builds the graphs of a plain stream.

    cache_dir: where compiled graphs stay between starts; None keeps nothing. offline: nothing is downloaded. safety: what it
    flags is shown black. path: parts of the way through a GPU, for benchmarks. Raises SpecError, ModelError, and MemoryShortError
    before anything is read that would not fit.
    """
    resolved = backends.resolve(spec)
    parts = ModelParts(with_loras(describe(spec.model), spec.loras), offline)
    for name in ("width", "height"):
        if getattr(spec, name) % parts.size_multiple:
            raise SpecError(name, f"{getattr(spec, name)} does not fit this model; multiples of {parts.size_multiple} do")
    resolved = backends.quantised(spec, resolved, bool(parts.calibration))
    memory.require(memory.estimate_of(parts, resolved), memory.free_bytes)
    pipeline = StreamPipeline(resolved, parts, cache_dir, safety, path)
    pipeline.prepare(Settings())
    return pipeline
