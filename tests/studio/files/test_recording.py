"""Record and replay: the same bytes, the same decisions; and files that are no record."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks import clips
from pipelines import Settings, StreamPipeline, StreamSpec, load, media
from studio.files import recording
from studio.files.exchange import FileOptions
from studio.files.recording import RecordingError, TimelineEntry
from studio.files.render import Plan, render
from studio.pictures import codec

SIZE = 128
TIMELINE = (
    TimelineEntry(3, {"prompt": "fox", "gate.enabled": True}),
    TimelineEntry(9, {"steps": 1, "cache.enabled": True}),
    TimelineEntry(14, {"cache.enabled": False, "noise.mode": "walk", "steps": 3}),
    TimelineEntry(20, {"seed": 4, "stream_batch.enabled": False}),
)


@pytest.fixture(scope="module")
def pipeline(mini_model: Path) -> StreamPipeline:
    return load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half moving, half still: the gate has something to decide."""
    path = tmp_path_factory.mktemp("films") / "in.mp4"
    writer = media.open_writer(path, 25, SIZE, SIZE)
    for name, count in (("handheld", 6), ("still", 20)):
        for picture in clips.clip(name, SIZE, SIZE, frames=count):
            writer.write(picture)
    writer.close()
    return path


def test_a_replay_gives_the_same_bytes(pipeline: StreamPipeline, film: Path, tmp_path: Path) -> None:
    start = Settings().patched({"steps": 2, "seed": 9, "gate.max_skip": 3})
    first, made = render(pipeline, Plan(start, TIMELINE), film, tmp_path / "a.mp4")
    assert first["skipped"] > 0 and first["frames"] == 26
    recording.write(made, tmp_path / "session.jsonl")
    back = recording.read(tmp_path / "session.jsonl")
    assert back.settings.flat() == made.settings.flat()
    assert (back.moments, back.digest, back.source, back.frames) == (made.moments, made.digest, made.source, made.frames)
    again, remade = render(pipeline, Plan(back.settings, back.moments, replay=back), film, tmp_path / "b.mp4")
    assert remade.digest == made.digest
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    counts = ("frames", "generated", "cached", "skipped", "dropped")
    assert [first[key] for key in counts] == [again[key] for key in counts]


@pytest.mark.parametrize(
    "reading",
    [
        media.ReadOptions("pad", (255, 0, 0), (255, 0, 0)),
        media.ReadOptions("stretch", fps=Fraction(30000, 1001)),
        media.ReadOptions(),
    ],
)
def test_a_record_holds_how_the_input_was_read(
    pipeline: StreamPipeline, film: Path, tmp_path: Path, reading: media.ReadOptions
) -> None:
    files = FileOptions(reading, audio=False)
    _, made = render(pipeline, Plan(Settings(), files=files), film, tmp_path / "a.mp4")
    recording.write(made, tmp_path / "session.jsonl")
    assert recording.read(tmp_path / "session.jsonl").files == files


@pytest.mark.parametrize(
    ("key", "value"),
    [("fit", "zoom"), ("background", [1, 2]), ("bars", [0, 0, 256]), ("fps", "0"), ("fps", "many"), ("audio", 1), ("fit", None)],
)
def test_a_record_with_a_broken_way_of_reading_is_refused(tmp_path: Path, key: str, value: object) -> None:
    made = recording.Recording(StreamSpec(), Settings(), (), 1, "", "", FileOptions())
    recording.write(made, tmp_path / "session.jsonl")
    head, *rest = (tmp_path / "session.jsonl").read_text().splitlines()
    changed = json.loads(head)
    changed["files"][key] = value
    (tmp_path / "session.jsonl").write_text("\n".join([json.dumps(changed), *rest]))
    with pytest.raises(RecordingError, match="is broken"):
        recording.read(tmp_path / "session.jsonl")


def test_a_replay_follows_the_recorded_decisions_not_the_die(pipeline: StreamPipeline, film: Path, tmp_path: Path) -> None:
    settings = Settings()
    _, made = render(pipeline, Plan(settings), film, tmp_path / "a.mp4")
    moments = tuple(TimelineEntry(index, skipped=True) for index in (2, 5))
    forced = recording.Recording(made.spec, settings, moments, made.frames, made.source, "other")
    with pytest.raises(RecordingError, match="differ from the recorded"):
        render(pipeline, Plan(settings, moments, replay=forced), film, tmp_path / "b.mp4")
    a, b = (list(media.read(tmp_path / name, SIZE, SIZE)) for name in ("a.mp4", "b.mp4"))
    assert len(a) == len(b) == 26


def test_a_replay_keeps_the_masks(pipeline: StreamPipeline, film: Path, tmp_path: Path) -> None:
    half = np.zeros((40, 60), np.uint8)
    half[:, 30:] = 255
    writer = media.open_writer(tmp_path / "mask.png", 1, SIZE, SIZE)
    writer.write(np.repeat(np.repeat(np.eye(8, dtype=np.uint8) * 255, 16, 0), 16, 1)[..., None].repeat(3, 2))
    writer.close()
    settings = Settings().patched({"strength_map.mode": "mask", "gate.enabled": True})
    timeline = (TimelineEntry(12, mask=codec.encode_mask(half)), TimelineEntry(20, mask=b""))
    _, made = render(pipeline, Plan(settings, timeline, tmp_path / "mask.png"), film, tmp_path / "a.mp4")
    recording.write(made, tmp_path / "session.jsonl")
    back = recording.read(tmp_path / "session.jsonl")
    assert back.moments == made.moments and back.moments[0].mask
    assert [moment.mask for moment in back.moments if moment.mask is not None][1:] == [timeline[0].mask, b""]
    assert not {12, 20} & {moment.frame for moment in back.moments if moment.skipped}, "the gate hid a change of the mask"
    _, remade = render(pipeline, Plan(back.settings, back.moments, replay=back), film, tmp_path / "b.mp4")
    assert remade.digest == made.digest
    _, without = render(pipeline, Plan(settings), film, tmp_path / "c.mp4")
    assert without.digest != made.digest


def test_another_input_is_noticed(pipeline: StreamPipeline, film: Path, tmp_path: Path) -> None:
    _, made = render(pipeline, Plan(Settings()), film, tmp_path / "a.mp4")
    with pytest.raises(RecordingError, match="input"):
        render(pipeline, Plan(made.settings, made.moments, replay=made), tmp_path / "a.mp4", tmp_path / "b.mp4")


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "is not a recorded session"),
        ("[1]\n", "line 1 is not a JSON object"),
        ("{", "line 1 is not JSON"),
        ('{"format": "rill-session-1"}\n{"frames": 1}', "is broken"),
        ('{"format": "rill-session-1", "spec": {"size": 3}, "settings": {}, "source": ""}\n{}', "is broken"),
        ('{"format": "rill-session-1", "spec": {}, "settings": {"x": 1}, "source": ""}\n{}', "is broken"),
        (
            '{"format": "rill-session-1", "spec": {}, "settings": {}, "source": ""}\n{"frame": 1, "mask": 5}\n{"frames": 1}',
            "mask",
        ),
        ('{"format": "rill-session-1", "spec": {}, "settings": {}, "source": ""}\n{"frame": 1, "mask": "eA=="}\n{}', "mask"),
        ('{"format": "rill-session-1", "spec": {}, "settings": {}, "source": ""}\n{"frame": -1}\n{"frames": 1}', "line 2"),
    ],
)
def test_files_that_are_no_record(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(RecordingError, match=words):
        recording.read(path)
    with pytest.raises(RecordingError, match="cannot be read"):
        recording.read(tmp_path / "absent")


def test_timelines_are_checked_whole_before_anything_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"frame": 3, "patch": {"steps": 2}}) + "\n" + json.dumps({"frame": 8, "patch": {"strength": 0.2}}))
    assert recording.read_timeline(path) == (TimelineEntry(3, {"steps": 2}), TimelineEntry(8, {"strength": 0.2}))
    for bad, words in (
        ('{"frame": 3}\n{"frame": 3}', "rise"),
        ('{"frame": 1, "patch": {"steps": 0}}', "steps"),
        ('{"f": 1}', "line 1"),
    ):
        path.write_text(bad)
        with pytest.raises(RecordingError, match=words):
            recording.read_timeline(path)
