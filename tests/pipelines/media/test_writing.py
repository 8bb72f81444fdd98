"""What is written is shown as it was: times, colours, sound; the kind by the name."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipelines import media
from tests.pipelines.media.makers import BLUE, GREEN, RED, YELLOW, clip, corners, flat, near, quarters

SPANS = [(Fraction(0), Fraction(1, 10)), (Fraction(1, 10), Fraction(7, 50)), (Fraction(7, 50), Fraction(11, 25))]
SPANS.append((Fraction(11, 25), Fraction(36, 25)))


def write(path: Path, frames: list[np.ndarray], spans: list[tuple[Fraction, Fraction]] | None = None) -> media.Writer:
    height, width = frames[0].shape[:2]
    writer = media.open_writer(path, 25, width, height)
    for index, frame in enumerate(frames):
        writer.write(frame, *(spans[index] if spans else ()))
    writer.close()
    return writer


@pytest.mark.parametrize("name", ["o.mp4", "O.MP4", "o.mov", "o.webm", "o.gif", "o.webp", "o.apng", "a:b 50%.mp4", "a:b 50%.gif"])
def test_frames_are_written_at_their_times(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [flat(20 + 60 * index) for index in range(4)], SPANS)
    found = list(media.open_source(tmp_path / name, 64, 64).pictures)
    assert [(picture.at, picture.until) for picture in found] == SPANS
    assert [picture.pixels.mean() for picture in found] == pytest.approx([20, 80, 140, 200], abs=3)


def test_a_gif_leaves_out_what_it_cannot_show_in_time_and_notes_it(tmp_path: Path) -> None:
    spans = [(Fraction(index, 100), Fraction(index + 1, 100)) for index in range(10)]
    writer = write(tmp_path / "quick.gif", [flat(20 * index) for index in range(10)], spans)
    found = list(media.open_source(tmp_path / "quick.gif", 64, 64).pictures)
    assert len(found) == 5 and float(found[-1].until) == pytest.approx(0.1) and "5 pictures" in writer.notes[0]


@pytest.mark.parametrize("size", [(64, 64), (1280, 720)])
@pytest.mark.parametrize("name", ["o.mp4", "o.webm"])
def test_colours_are_tagged_and_come_back_through_the_tag(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    write(tmp_path / name, [quarters(*size)] * 2)
    with av.open(str(tmp_path / name)) as opened:
        context = opened.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (1, 1, 1, 1)
        shown = next(opened.decode(video=0)).reformat(format="rgb24", src_colorspace="ITU709").to_ndarray()
    assert near(corners(shown), [RED, GREEN, BLUE, YELLOW], 6)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("o-%03d.png", ["o-001.png", "o-002.png"]),
        ("O%d.PNG", ["O1.PNG", "O2.PNG"]),
        ("new", ["frame-0001.png", "frame-0002.png"]),
    ],
)
def test_a_picture_for_each_frame(tmp_path: Path, name: str, written: list[str]) -> None:
    write(tmp_path / name, [flat(50), flat(100)])
    folder = tmp_path / name if name == "new" else tmp_path
    assert sorted(path.name for path in folder.iterdir()) == written
    assert [media.read_picture(folder / file, 64, 64).mean() for file in written] == [50, 100]


def test_a_picture_of_a_clip_is_the_last_and_the_others_are_noted(tmp_path: Path) -> None:
    writer = write(tmp_path / "o.png", [flat(50), flat(100)])
    assert media.read_picture(tmp_path / "o.png", 64, 64).mean() == 100 and "last of 2" in writer.notes[0]


def test_a_percent_sign_alone_is_no_number(tmp_path: Path) -> None:
    write(tmp_path / "100%.png", [flat(50)])
    assert [path.name for path in tmp_path.iterdir()] == ["100%.png"]


def test_a_webp_that_joins_equal_frames_lasts_as_long(tmp_path: Path) -> None:
    write(tmp_path / "o.webp", [flat(50), flat(50), flat(200), flat(200)], SPANS)
    found = list(media.open_source(tmp_path / "o.webp", 64, 64).pictures)
    assert found[-1].until == SPANS[-1][1]
    assert next(picture.at for picture in found if picture.pixels.mean() > 150) == SPANS[2][0]


def test_a_webp_of_one_picture_is_a_picture(tmp_path: Path) -> None:
    write(tmp_path / "o.webp", [flat(50)])
    with Image.open(tmp_path / "o.webp") as picture:
        assert getattr(picture, "n_frames", 1) == 1 and picture.size == (64, 64)


def sounding(path: Path, form: str, codec: str, sound: str, start: float = 0.0) -> Path:
    times = [start + index / 10 for index in range(10)]
    return clip(path, [flat(20 * index) for index in range(10)], times, form=form, codec=codec, sound=sound)


def heard(path: Path) -> tuple[str, np.ndarray]:
    """The codec, and all samples at 48 kHz."""
    with av.open(str(path)) as opened:
        stream = opened.streams.audio[0]
        resampler = av.AudioResampler("flt", "mono", 48_000)
        parts = [part.to_ndarray()[0] for frame in opened.decode(stream) for part in resampler.resample(frame)]
        return stream.codec_context.name, np.concatenate(parts)


@pytest.mark.parametrize(
    ("form", "codec", "sound", "target", "kept"),
    [
        ("mp4", "libx264", "aac", "o.mp4", "aac"),
        ("webm", "libvpx", "libopus", "o.webm", "opus"),
        ("webm", "libvpx", "libopus", "o.mp4", "opus"),
        ("mp4", "libx264", "aac", "o.webm", "opus"),
        ("mov", "libx264", "pcm_s16le", "o.mp4", "aac"),
    ],
)
def test_sound_goes_along(tmp_path: Path, form: str, codec: str, sound: str, target: str, kept: str) -> None:
    path = sounding(tmp_path / "in", form, codec, sound)
    source = media.open_source(path, 64, 64)
    track = media.Sound.of(path, source.start)
    assert track is not None
    writer = media.open_writer(tmp_path / target, source.fps, 64, 64, track)
    for picture in source.pictures:
        writer.write(picture.pixels, picture.at, picture.until)
    writer.close()
    (_, before), (codec_after, after) = heard(path), heard(tmp_path / target)
    assert codec_after.removeprefix("lib") == kept
    assert abs(len(after) - len(before)) <= 2100  # one packet of an encoder
    assert ("copied" in str(writer.sound)) == (kept == sound.removeprefix("lib"))
    count = min(len(before), len(after)) - 9600
    shift = int(np.argmax(np.correlate(after[2400 : 2400 + count], before[2400 + 700 : 2400 + count - 700], "valid"))) - 700
    period = round(2 * np.pi * 200)
    assert min(shift % period, -shift % period) <= 60  # in phase: WebM's times are of whole milliseconds
    times = [float(picture.at) for picture in media.open_source(tmp_path / target, 64, 64).pictures]
    assert times == pytest.approx([index / 10 for index in range(10)], abs=0.0011)


def test_sound_that_begins_before_the_picture_stays_in_time(tmp_path: Path) -> None:
    path = sounding(tmp_path / "in.mkv", "matroska", "libx264", "aac", start=0.5)
    source = media.open_source(path, 64, 64)
    track = media.Sound.of(path, source.start)
    assert track is not None and track.delay == pytest.approx(0.5, abs=0.03)
    writer = media.open_writer(tmp_path / "o.mp4", source.fps, 64, 64, track)
    for picture in source.pictures:
        writer.write(picture.pixels, picture.at, picture.until)
    writer.close()
    with av.open(str(tmp_path / "o.mp4")) as opened:
        starts = {stream.type: float(stream.start_time * stream.time_base) for stream in opened.streams}
    assert starts["video"] - starts["audio"] == pytest.approx(0.5, abs=0.03)


def test_a_clip_without_sound_has_none(tmp_path: Path) -> None:
    assert media.Sound.of(clip(tmp_path / "mute.mp4", [flat(50)]), Fraction(0)) is None
