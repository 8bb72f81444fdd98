"""A render's two files: options, times, sound and damage from end to end, with the real engine in miniature."""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app import main
from pipelines import Settings, StreamPipeline, StreamSpec, load, media
from studio.cli.arguments import add_file_arguments, file_options_of
from studio.files.exchange import FileOptions, warnings
from studio.files.render import Plan, render
from tests.pipelines.media.makers import clip, flat

SIZE = 128
TIMES = [0, 0.04, 0.3, 0.34, 1.04, 1.1]


@pytest.fixture(scope="module")
def pipeline(mini_model: Path) -> StreamPipeline:
    return load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames at uneven times, with a second of sound."""
    path = tmp_path_factory.mktemp("films") / "in.mp4"
    dice = np.random.default_rng(0)
    frames = [dice.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in TIMES]
    return clip(path, frames, TIMES, sound="aac")


def run(
    pipeline: StreamPipeline, source: Path, target: Path, files: FileOptions | None = None, **settings: Any
) -> dict[str, Any]:
    plan = Plan(Settings().patched(settings), files=files or FileOptions())
    return render(pipeline, plan, source, target)[0]


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", ["out.mp4", "out.webm", "out.gif", "out.apng"])
def test_the_output_has_the_times_of_the_input(
    pipeline: StreamPipeline, film: Path, tmp_path: Path, steps: int, name: str
) -> None:
    """With a stream batch too, whose pictures come late."""
    result = run(pipeline, film, tmp_path / name, steps=steps)
    found = list(media.open_source(tmp_path / name, SIZE, SIZE).pictures)
    assert result["frames"] == result["generated"] == len(found) == 6
    assert [float(picture.at) for picture in found] == pytest.approx(TIMES, abs=0.0051 if name == "out.gif" else 0.0011)


def test_resampled(pipeline: StreamPipeline, film: Path, tmp_path: Path) -> None:
    files = FileOptions(media.ReadOptions(fps=Fraction(10)))
    assert run(pipeline, film, tmp_path / "out.mp4", files)["frames"] == 12
    found = list(media.open_source(tmp_path / "out.mp4", SIZE, SIZE).pictures)
    assert [picture.at for picture in found] == [Fraction(index, 10) for index in range(12)]


@pytest.mark.parametrize(
    ("name", "audio", "sound"),
    [
        ("out.mp4", True, "copied"),
        ("out.mp4", False, "left out: --no-audio"),
        ("out.gif", True, "left out: out.gif cannot hold it"),
    ],
)
def test_the_result_reports_the_sound(
    pipeline: StreamPipeline, film: Path, tmp_path: Path, name: str, audio: bool, sound: str
) -> None:
    assert run(pipeline, film, tmp_path / name, FileOptions(audio=audio))["sound"] == sound
    assert (media.Sound.of(tmp_path / name, Fraction(0)) is not None) == (sound == "copied")


def test_a_clip_without_sound_has_nothing_to_report(pipeline: StreamPipeline, tmp_path: Path) -> None:
    result = run(pipeline, clip(tmp_path / "mute.mp4", [flat(90)]), tmp_path / "out.mp4")
    assert (result["sound"], result["damaged"], result["notes"]) == (None, None, [])


def test_damage_is_reported_and_the_rest_is_used(pipeline: StreamPipeline, tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    frames = [dice.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(12)]
    path = clip(tmp_path / "cut.mp4", frames, container={"movflags": "+faststart"})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    result = run(pipeline, path, tmp_path / "out.mp4")
    assert 5 <= result["frames"] < 12 and "12 frames" in result["damaged"]
    assert warnings(path, result) == [f"{path}: is damaged: {result['damaged']}"]


def test_a_folder_of_pictures(pipeline: StreamPipeline, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(flat(50 * index)).save(folder / f"{index}.png")
    (folder / "note.txt").write_text("no picture")
    result = run(pipeline, folder, tmp_path / "out-%02d.png")
    assert result["frames"] == 3 and "note.txt" in result["notes"][0]
    assert sorted(path.name for path in tmp_path.glob("out-*")) == ["out-01.png", "out-02.png", "out-03.png"]


def test_the_options() -> None:
    parser = argparse.ArgumentParser()
    add_file_arguments(parser)
    plain = file_options_of(parser.parse_args([]))
    assert plain == FileOptions() and (plain.reading.background, plain.reading.bars) == ((128, 128, 128), (0, 0, 0))
    given = ["--fit", "pad", "--background", "#0a1420", "--fps", "30000/1001", "--no-audio"]
    made = file_options_of(parser.parse_args(given))
    assert made == FileOptions(media.ReadOptions("pad", (10, 20, 32), (10, 20, 32), Fraction(30000, 1001)), audio=False)
    for wrong in (
        ["--background", "sky"],
        ["--fps", "0"],
        ["--fps", "-3"],
        ["--fps", "1/0"],
        ["--fps", "inf"],
        ["--fit", "half"],
    ):
        with pytest.raises(SystemExit):
            parser.parse_args(wrong)


def test_a_replay_reads_its_input_as_it_was_recorded(
    mini_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, record = clip(tmp_path / "in.mp4", [flat(90, 128, 64)] * 3, [0, 0.1, 0.3]), str(tmp_path / "session.jsonl")
    common = ["--model", str(mini_model), "--size", "128", "--backend", "eager", "--dtype", "float32"]
    reading = ["--fit", "pad", "--background", "white", "--fps", "5"]
    assert main(["render", str(path), str(tmp_path / "a.png"), *common, *reading, "--record", record]) == 0
    assert main(["render", str(path), str(tmp_path / "b.png"), *common, "--replay", record]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    for option in (["--fit", "pad"], ["--fps", "5"], ["--background", "white"]):
        assert main(["render", str(path), str(tmp_path / "c.png"), *common, "--replay", record, *option]) in (1, 2)
        assert f"{option[0]}: a replay takes it from the record" in capsys.readouterr().err


BROKEN = {
    "text.mp4": b"no clip",
    "empty.png": b"",
    "zeros.webm": bytes(5000),
    "cut.mp4": None,
    "sound.m4a": None,
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_named_with_exit_code_1(
    mini_model: Path, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(BROKEN[name] if BROKEN[name] is not None else film.read_bytes()[:700])
    common = ["--model", str(mini_model), "--size", "128", "--backend", "eager", "--dtype", "float32"]
    assert main(["render", str(path), str(tmp_path / "out.mp4"), *common]) == 1
    shown = capsys.readouterr()
    assert name in shown.err and "Traceback" not in shown.err and not shown.out


def test_a_name_with_colon_and_percent_through_the_command(
    mini_model: Path, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a:b 100%.MP4"
    source.write_bytes(film.read_bytes())
    common = ["--model", str(mini_model), "--size", "128", "--backend", "eager", "--dtype", "float32"]
    assert main(["render", str(source), str(tmp_path / "c:d 50%.WEBM"), *common, "--strength", "0"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["frames"] == 6 and result["sound"].startswith("encoded as opus")
