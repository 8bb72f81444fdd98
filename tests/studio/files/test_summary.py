"""The closing JSON object: which frames each rate counts."""

from __future__ import annotations

from pipelines import Output, StageTimings, StreamSpec
from studio.files.summary import Summary

VERDICTS = ("generated", "generated", "cached", "cached", "cached", "skipped", "warming")


def test_generated_fps_counts_full_passes_and_output_fps_all_frames_with_a_picture() -> None:
    summary = Summary()
    for number, verdict in enumerate(VERDICTS):
        summary.frames += 1
        summary.add(Output(number, 1, None, verdict, StageTimings(denoise=float(number))))  # type: ignore[arg-type]
    result = summary.result(StreamSpec(), 0, 2.0)
    assert (result["generated_fps"], result["output_fps"]) == (1.0, 3.0)
    assert "fps" not in result and result["frames"] == 7 and result["stage_ms"] == {"denoise": 3.5}


def test_an_empty_run_has_rates_of_zero() -> None:
    result = Summary().result(StreamSpec(), 0, 0.0)
    assert result["generated_fps"] == result["output_fps"] == 0.0
