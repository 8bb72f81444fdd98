"""The closing JSON object of render and of the Python client: what was shown, how fast, where the time went. Pure."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

from pipelines import STAGES, Output, StageTimings, StreamSpec


class Summary:
    """Counts verdicts and collects stage times of one run."""

    def __init__(self) -> None:
        self.frames = 0
        self.verdicts: Counter[str] = Counter()
        self.dropped = 0
        self._stages: dict[str, list[float]] = {stage: [] for stage in STAGES}

    def add(self, output: Output) -> None:
        """An answer; warming answers are no result, the frame comes out later."""
        if output.verdict != "warming":
            self.verdicts[output.verdict] += 1
        self.dropped += len(output.superseded)
        self.add_timings(output.timings)

    def add_timings(self, timings: StageTimings) -> None:
        for stage, values in self._stages.items():
            if (value := getattr(timings, stage)) > 0.0:
                values.append(value)

    def result(self, spec: StreamSpec, seed: int, wall_s: float) -> dict[str, Any]:
        """The JSON object. generated_fps counts pictures of full passes; output_fps all source frames that were answered with a
        picture: generated, cached or, for a skip, the one before. Both are 0 for an empty run."""
        generated = self.verdicts["generated"]
        output = generated + self.verdicts["cached"] + self.verdicts["skipped"]
        return {
            "frames": self.frames,
            "generated": generated,
            "cached": self.verdicts["cached"],
            "skipped": self.verdicts["skipped"],
            "dropped": self.dropped,
            "wall_s": round(wall_s, 4),
            "generated_fps": round(generated / wall_s, 2) if wall_s > 0 else 0.0,
            "output_fps": round(output / wall_s, 2) if wall_s > 0 else 0.0,
            "stage_ms": {stage: round(median(values), 3) for stage, values in self._stages.items() if values},
            "model": spec.model,
            "backend": spec.backend,
            "size": f"{spec.width}x{spec.height}",
            "seed": seed,
        }
