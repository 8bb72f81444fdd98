"""The benchmark of loading: what it measures is a stream's first frame, against the estimate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import loading
from pipelines import RillError
from tests import miniature


def test_widths_are_divided_and_nothing_else() -> None:
    config = {"a": [320, 640], "b": 1024, "c": 5}
    assert loading._narrowed(config, ("a", "b"), 2) == {"a": [160, 320], "b": 512, "c": 5}


@pytest.mark.long
def test_the_first_frame_is_measured_against_the_estimate_and_unloading_frees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(miniature.UNETS, "sd21", {**miniature.SD21, "block_out_channels": (256, 512)})  # 0.2 GiB
    folder = miniature.save_family(tmp_path / "model", "sd21")
    result = json.loads(loading._run("measure", str(folder), "eager", "float32", "128", str(tmp_path / "cache")))
    assert result["first_frame_s"] >= result["loaded_s"] > 0 and result["peak_gib"] >= result["libraries_gib"] > 0.05
    assert result["peak_gib"] >= result["unloaded_gib"] > 0 and result["peak_to_estimate"] >= result["growth_to_estimate"] >= 0
    grown, left = (result[name] - result["libraries_gib"] for name in ("peak_gib", "unloaded_gib"))
    assert grown > 0.2 and left < 0.4 * grown and 0.75 < result["growth_to_estimate"] < 1.3
    assert result["estimate_gib"]["total"] > 0 and (result["backend"], result["dtype"]) == ("eager", "float32")


def test_a_process_that_fails_is_an_error_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(RillError, match=r"measure failed: ValueError: .*'large'"):
        loading._run("measure", str(tmp_path), "eager", "float32", "large", str(tmp_path))
