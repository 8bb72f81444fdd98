"""The GPU benchmark from its command line, in miniature on a CPU: everything runs, nothing is judged."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import cli, gpu, gpu_lanes, gpu_peers, gpu_state
from tests.benchmarks.command import closing


def test_without_a_gpu_one_sentence_names_what_is_needed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.main(["--gpu"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "needs an NVIDIA GPU" in line and "--tiny" in line


@pytest.mark.long
def test_the_whole_command_in_miniature(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shape = "sd-turbo"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu_peers, "find_spec", lambda name: None)  # whether or not StreamDiffusion is installed here
    result = closing(capsys, "--gpu", "--tiny", "--shapes", shape)
    assert result["tiny"] and result["gpu"] is None
    found = result["shapes"][shape]
    assert set(found["lanes"]) == {
        "image, 1 step(s)", "image, 2 step(s)", "text, 1 step(s)", "text, 2 step(s)", "2 sessions", "cache, interval 3",
    }  # fmt: skip
    assert all(lane["frames_per_s"] > 0 and lane["latency_ms"]["p95"] > 0 for lane in found["lanes"].values())
    assert set(found["unet_ms"]) == {"1", "2"} and found["cache_unet_ratio"] > 0
    names = [variant.name for variant in gpu.variants()]
    assert list(found["ablation"]) == names and all("failed" not in row for row in found["ablation"].values())
    assert found["ablation"]["whole path"]["1"]["ratio"] == 1.0 and found["ablation"]["whole path"]["ssim_to_whole_path"] == 1.0
    assert found["peers"]["diffusers"]["frames_per_s"] > 0 and found["peers"]["streamdiffusion"] == "not installed"


def test_each_part_of_the_path_is_taken_away_alone() -> None:
    parts = {variant.name: variant.path for variant in gpu.variants() if variant.name.startswith("without")}
    assert {name.removeprefix("without ") for name in parts} == {
        "channels_last", "graphs", "pinned", "overlap", "kernels", "compile",
    }  # fmt: skip
    for path in parts.values():
        assert sum(getattr(path, name) != getattr(gpu.WHOLE, name) for name in path.__slots__) == 1


def test_what_a_call_costs_beside_its_rows() -> None:
    assert gpu_lanes.per_call({"1": 3.0, "2": 4.0, "4": 6.0}) == 2.0
    assert gpu_lanes.per_call({"1": 3.0}) is None and gpu_lanes.per_call({"1": 3.0, "2": 3.0}) is None


def test_clocks_and_power_are_medians() -> None:
    lines = "1980, 2619, 350.5, 41, 99, 1024\n1700, 2619, 401.0, 43, 97, 1024\n1980, 2619, [N/A], 42, 98, 1024\n"
    found = gpu_state.summary(lines)
    assert found["clocks.sm"] == 1980 and found["power.draw"] == 375.75 and found["temperature.gpu"] == 42


def test_kernels(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "compile", lambda call, **options: call)  # Inductor's C++ takes seconds for each
    result = closing(capsys, "kernels", "--size", "256", "--rows", "1", "--blocks", "1", "--repeats", "1")
    names = {found["name"] for found in result["operations"]}
    assert names == {"pixels in", "pixels in, halved", "pixels out", "stream step", "group norm + silu"}
    assert all(set(found["ms"]) == {"eager", "compiled"} for found in result["operations"])


def test_shapes_are_where_they_should_be(tmp_path: Path) -> None:
    from benchmarks import shapes

    for shape in shapes.SHAPES:
        folder = shapes.save(tmp_path / shape, shape, tiny=True)
        unet = json.loads((folder / "unet" / "config.json").read_text())
        assert unet["mid_block_type" if shape == "sdxs" else "cross_attention_dim"] == (
            None if shape == "sdxs" else 96 if shape == "sdxl-turbo" else 32
        )
