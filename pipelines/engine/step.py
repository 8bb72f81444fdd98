"""One step: turns of sessions in, their answers out. Encode, admit, denoise level by level, let finished frames out, decode."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from pipelines.engine import feedback
from pipelines.engine.admission import admit
from pipelines.engine.beside import Beside
from pipelines.engine.conditioner import Conditioner
from pipelines.engine.decoding import FinishedLatent, PictureDecoder
from pipelines.engine.device import Transfer
from pipelines.engine.feature_memory import remember
from pipelines.engine.graph_choice import GraphChoice
from pipelines.engine.levels import FrameOutputs, Levels
from pipelines.engine.partial_frames import PartialFrames, cut
from pipelines.engine.partial_memory import PartialPicture
from pipelines.engine.passes import Passes, RowInput
from pipelines.engine.rows import Row, RowPlanner
from pipelines.engine.turn import Entry, Turn
from pipelines.engine.work import ENCODE, ENCODE_WINDOW, Work, WorkLog, call, of_pictures
from pipelines.graphs.graphs import Graphs
from pipelines.techniques import hints, probe
from pipelines.values.settings import Settings
from pipelines.values.types import Frame, Output, Picture, Pixels, Verdict


class StepRunner:
    """Runs the turns of one step together.

    work: the rows of the last step. measured: work and seconds of each stage of the newest step that has just ended, None where
    none has.
    """

    def __init__(
        self,
        graphs: Graphs,
        transfer: Transfer,
        choice: GraphChoice,
        conditioner: Conditioner,
        passes: Passes,
        levels: Levels,
        decode: PictureDecoder,
    ) -> None:
        self._graphs, self._transfer, self._choice, self._conditioner = graphs, transfer, choice, conditioner
        self._passes, self._levels, self._decode = passes, levels, decode
        self._beside = Beside(graphs, transfer.to_device)
        self.partial = PartialFrames(choice, (graphs.spec.height, graphs.spec.width))
        self.work = Work()
        self.measured: list[tuple[Work, float]] | None = None
        self._log = WorkLog()

    @torch.inference_mode()
    def run(self, turns: Sequence[Turn]) -> list[Output | None]:
        """The answers, in order; None for a turn that goes on in a later step."""
        fresh = [turn for turn in turns if turn.conditioning is None]
        for turn in fresh:
            self._probe(turn.entry)
            turn.plan = self.partial.plan(turn.entry.state, turn.entry.frame, turn.entry.settings)
        self.work = Work()
        self._transfer.begin()
        latents = self._encode(fresh)
        with self._transfer.lane("denoise", *(value for pair in latents.values() for value in pair if value is not None)):
            for turn in fresh:
                self._begin(turn, *latents.get(id(turn), (None, None)))
            self._denoise(turns)
            over = [turn for turn in turns if turn.complete()]
            for turn in over:
                turn.depart()
        pictures, partials = self._pictures(over)
        timings = self._transfer.end()
        self.measured = self._log.add(self.work, timings, self._transfer.lag)
        for turn in turns:
            turn.timings += timings
            turn.entry.state.probe.earn(timings.model, turn.entry.settings.probe)
        for turn in over:
            turn.end()
            if turn.departure.frame is not None:
                self.partial.keep(turn.entry.state, turn.departure.frame, partials.get(id(turn)))
        return [_output(turn, pictures.get(id(turn))) if turn in over else None for turn in turns]

    def _probe(self, entry: Entry) -> None:
        """Make the unaccelerated picture of the entry's frame, if its session's probe is due."""
        state, frame = entry.state, entry.frame
        if frame is None or not state.probe.due(entry.settings.probe):
            return
        start = time.perf_counter()
        (answer,) = self.run([Turn(Entry(state.shadow(), frame, probe.reference(entry.settings)), [])])
        if answer is not None and answer.pixels is not None:
            state.probe.add_reference(frame.id, answer.pixels, (time.perf_counter() - start) * 1000)

    def _encode(self, turns: Sequence[Turn]) -> dict[int, tuple[Tensor, Tensor | None]]:
        """The clean latent [C, h, w] of each turn's frame, and what the UNet takes beside it, by the turn's id(); without those
        of frames that have no pixels."""
        with_pixels = [turn for turn in turns if turn.entry.frame is not None and turn.entry.frame.pixels is not None]
        if not with_pixels:
            return {}
        found: dict[int, tuple[Tensor, Tensor | None]] = {}
        windows = [turn.plan is not None and turn.plan.window is not None for turn in with_pixels]
        with self._transfer.lane("encode"):
            for part, stage, in_window in (("encode", ENCODE, False), ("encode-window", ENCODE_WINDOW, True)):
                group = [turn for turn, window in zip(with_pixels, windows, strict=True) if window == in_window]
                if not group:
                    continue
                pixels = self._transfer.upload([cut(self._checked(turn.entry.frame), turn.plan) for turn in group])
                encoded = self._graphs.run(part, (pixels,))[0]
                beside = self._beside(pixels, encoded, [turn.entry.state.repainted for turn in group])
                self.work[stage] += len(group)
                found |= {id(turn): (one, other) for turn, one, other in zip(group, encoded, beside, strict=True)}
        for turn in with_pixels:
            turn.left -= 1
        return found

    def _checked(self, frame: Frame | None) -> Pixels:
        shape = (self._graphs.spec.height, self._graphs.spec.width, 3)
        if frame is None or frame.pixels is None or frame.pixels.shape != shape or frame.pixels.dtype != np.uint8:
            raise ValueError(f"frame {None if frame is None else frame.id}: pixels must be uint8 of shape {shape}")
        return frame.pixels

    def _begin(self, turn: Turn, latent: Tensor | None, beside: Tensor | None) -> None:
        """Admit a turn's frame, and find what its rows are conditioned on."""
        state, frame, settings = turn.entry.state, turn.entry.frame, turn.entry.settings
        if frame is not None:
            self._conditioner.pictures.read_both(state.seen, state.seen_b)
            beside = self._beside.nothing if latent is None else beside
            admit(state, frame, latent, settings, self._levels, *self._hints(frame, settings), beside, turn.plan)
        turn.conditioning = self._conditioner(state, frame, settings)

    def _hints(self, frame: Frame, settings: Settings) -> tuple[Tensor | None, Tensor | None]:
        """The maps that ControlNets follow, and their kinds; None where none takes part."""
        if frame.pixels is None or not self._choice.controls(frame, settings):
            return None, None
        names = [control.map or settings.control.map for control in self._graphs.parts.control_files]
        maps, kinds = (self._transfer.to_device(torch.from_numpy(values)) for values in hints.hints(frame.pixels, names))
        return maps, kinds

    def _denoise(self, turns: Sequence[Turn]) -> None:
        """One UNet call moves every chosen frame one level, as far as this step goes. Sequential sessions come back until their
        frame is done."""
        position = 0
        while any(taken := [turn.take(self._plan) for turn in turns]):
            chosen = [(turn, row) for turn, its in zip(turns, taken, strict=True) for row in its]
            inputs = [RowInput(row, turn.conditioned, turn.entry.state.number) for turn, row in chosen]
            for one in inputs:
                self.work[call(one.row, one.conditioning.control_scale, position)] += 1
            predictions = iter(self._passes.predict(inputs))
            moved: list[FrameOutputs] = []
            for turn, rows in zip(turns, taken, strict=True):
                outputs = []
                for made in islice(predictions, len(rows)):
                    remember(turn.entry.state, made.row, made.features, self._levels)
                    outputs.append((made.row, self._levels.restated(made.row, made.output)))
                moved += turn.receive(outputs)
            self._levels.advance(moved)
            position += 1

    def _plan(self, turn: Turn) -> list[Row]:
        """The rows of a turn's next UNet call."""
        state, settings = turn.entry.state, turn.entry.settings
        keys, ready = turn.conditioned.keys, self._choice.cache_ready(settings, turn.conditioned.chunks)
        first = self._choice.first(settings, turn.conditioned.chunks)
        planner = RowPlanner(settings, state.cache, state.residuals, keys, ready, len(turn.conditioned.prompts), first)
        if not planner.reuses_frames:
            state.cache.clear()
        return planner.rows(turn.moving)

    def _pictures(self, turns: Sequence[Turn]) -> tuple[dict[int, Picture], dict[int, PartialPicture]]:
        """The pictures that leave the stream batch, by the id() of their turn; those of frames with a plan in tensors, too."""
        leaving: dict[int, FinishedLatent] = {}
        for turn in turns:
            frame = turn.departure.frame
            if frame is not None and frame.x0 is not None:
                turn.feedback = feedback.of(turn.entry.state, frame, turn.entry.settings)
                partial = None if frame.plan is None else PartialPicture(frame.plan)
                style, layers = turn.conditioned.style, turn.conditioned.layers
                leaving[id(turn)] = FinishedLatent(frame.x0, style, frame.strength, turn.feedback, partial, layers)
        pictures = self._decode(list(leaving.values()))
        for one in (layer for finished in leaving.values() for layer in self._decode.layers(finished)):
            self.work[of_pictures(self._decode.part(one))] += 1
        partials = {key: finished.partial for key, finished in leaving.items() if finished.partial is not None}
        return dict(zip(leaving, pictures, strict=True)), partials


def _output(turn: Turn, picture: Picture | None) -> Output:
    entry, leaving, version = turn.entry, turn.departure.frame, turn.entry.settings.version
    if leaving is None:
        frame_id = entry.frame.id if entry.frame is not None else -1
        return Output(frame_id, version, None, "warming", turn.timings)
    verdict: Verdict = "cached" if leaving.reused else "generated"
    reference = entry.state.probe.take_reference(leaving.frame_id)
    entry.state.shown = leaving if entry.settings.refine.enabled else None
    superseded = turn.departure.superseded
    changing = entry.state.changing or entry.settings.noise.mode == "walk"
    return Output(leaving.frame_id, version, picture, verdict, turn.timings, None, superseded, reference, changing)
