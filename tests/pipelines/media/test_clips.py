"""Clips as a player shows them: upright, in their proportions, their times and their colours; and what is left of broken ones."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines import media
from pipelines.media import graph
from tests.pipelines.media.makers import BLUE, GREEN, RED, YELLOW, clip, corners, encoded, flat, near, quarters

STRETCH = media.ReadOptions("stretch")


def pictures(path: Path, width: int = 64, height: int = 64, options: media.ReadOptions = STRETCH) -> list[media.TimedPicture]:
    return list(media.open_source(path, width, height, options).pictures)


@pytest.mark.parametrize(
    ("rotation", "shown"),
    [
        ((0, False, False), [RED, GREEN, BLUE, YELLOW]),
        ((90, False, False), [GREEN, YELLOW, RED, BLUE]),  # anticlockwise, as av_display_rotation_set counts
        ((180, False, False), [YELLOW, BLUE, GREEN, RED]),
        ((270, False, False), [BLUE, RED, YELLOW, GREEN]),
        ((0, True, False), [GREEN, RED, YELLOW, BLUE]),
        ((0, False, True), [BLUE, YELLOW, RED, GREEN]),
    ],
)
def test_a_display_matrix_turns_and_mirrors(
    tmp_path: Path, rotation: tuple[float, bool, bool], shown: list[tuple[int, int, int]]
) -> None:
    path = clip(tmp_path / "turned.mp4", [quarters(128, 64)] * 3, rotation=rotation)
    found = pictures(path)
    assert len(found) == 3 and near(corners(found[0].pixels), shown)


@pytest.mark.parametrize("angle", [0, 90, 180, -90])
def test_side_data_without_a_name_does_not_hide_the_angle(tmp_path: Path, angle: int) -> None:
    """PyAV raises ValueError for all of a frame's side data where it has no name for one kind."""

    class Sealed:
        rotation = angle

        @property
        def side_data(self) -> object:
            raise ValueError("31 is not a valid Type")

    path = clip(tmp_path / "turned.mp4", [quarters(128, 64)], rotation=(angle, False, False))
    with av.open(str(path)) as opened:
        assert graph.turn_of(Sealed()) == graph.turn_of(next(opened.decode(video=0)))


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_portrait_clip_is_fitted_in_its_upright_shape(tmp_path: Path, mirrored: bool) -> None:
    path = clip(tmp_path / "portrait.mp4", [quarters(128, 64)], rotation=(90, mirrored, False))
    (only,) = pictures(path, 128, 128, media.ReadOptions("pad", (0, 0, 0)))
    lit = only.pixels.max((0, 2)) > 30
    assert lit[33:95].all() and not lit[:31].any() and not lit[97:].any()  # 64 of 128 columns: twice as high as wide


def test_anamorphic_pixels_are_shown_wide(tmp_path: Path) -> None:
    path = clip(tmp_path / "wide.mp4", [quarters(64, 64)], aspect=Fraction(2, 1))
    (only,) = pictures(path, 128, 128, media.ReadOptions("pad", (0, 0, 0)))
    lit = only.pixels.max((1, 2)) > 30
    assert lit[33:95].all() and not lit[:31].any() and not lit[97:].any()


@pytest.mark.parametrize(("fit", "left"), [("crop", 200), ("pad", 0), ("stretch", 20)])
def test_the_three_ways_to_fit(tmp_path: Path, fit: str, left: int) -> None:
    frame = flat(20, 128, 64)
    frame[:, 32:96] = 200
    path = clip(tmp_path / "fit.mp4", [frame])
    (only,) = pictures(path, 64, 64, media.ReadOptions(fit, (0, 0, 0)))
    probe = only.pixels[4, 4]  # cut away, in the upper bar, or of the dark left quarter
    assert np.abs(probe.astype(int) - left).max() <= 6


TIMES = [0, 0.04, 0.3, 0.34, 1.04, 1.1]


@pytest.mark.parametrize("form", ["mp4", "matroska", "webm", "mpegts"])
def test_frames_keep_their_times(tmp_path: Path, form: str) -> None:
    codec = "libvpx" if form == "webm" else "libx264"
    path = clip(tmp_path / "vfr", [flat(40 * index) for index in range(6)], TIMES, form=form, codec=codec)
    found = pictures(path)
    assert [float(picture.at) for picture in found] == pytest.approx(TIMES, abs=0.0011)
    assert all(one.until == other.at for one, other in pairwise(found))
    assert [picture.pixels.mean() for picture in found] == pytest.approx([40 * index for index in range(6)], abs=4)


def test_resampling_shows_what_is_shown_at_each_moment(tmp_path: Path) -> None:
    path = clip(tmp_path / "vfr.mp4", [flat(40 * index) for index in range(6)], TIMES)
    found = pictures(path, options=media.ReadOptions("crop", fps=Fraction(10)))
    assert [float(picture.at) for picture in found] == pytest.approx([index / 10 for index in range(12)])
    levels = [round(picture.pixels.mean() / 40) for picture in found]
    assert levels == [0, 1, 1, 2, 3, 3, 3, 3, 3, 3, 3, 5]


def test_a_recording_of_a_browser_without_duration(tmp_path: Path) -> None:
    """As MediaRecorder writes it: live WebM, no duration, no index, uneven times."""
    times = [0.0, 0.1, 0.9, 1.5, 2.2, 3.0]
    frames = [flat(30 * index) for index in range(6)]
    path = clip(tmp_path / "live", frames, times, form="webm", codec="libvpx", container={"live": "1"})
    with av.open(str(path)) as opened:
        assert opened.duration is None
    source = media.open_source(path, 64, 64)
    assert [float(picture.at) for picture in source.pictures] == pytest.approx(times, abs=0.0011) and source.damage is None


NOISE = [np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8) for index in range(24)]


@pytest.mark.parametrize(
    ("form", "codec", "container"),
    [
        ("mp4", "libx264", {"movflags": "+faststart"}),
        ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("webm", "libvpx", {}),
        ("webm", "libvpx", {"live": "1"}),
        ("matroska", "libx264", {}),
        ("avi", "mpeg4", {}),
        ("mpegts", "libx264", {}),
        ("flv", "libx264", {}),
        ("asf", "mpeg4", {}),
        ("ogg", "libvpx", {}),
    ],
)
def test_of_a_clip_that_is_cut_off_every_whole_frame_is_used_and_the_damage_is_known(
    tmp_path: Path, form: str, codec: str, container: dict[str, str]
) -> None:
    whole = clip(tmp_path / "whole", NOISE, form=form, codec=codec, container=container, options={"g": "8"})
    source = media.open_source(whole, 64, 64)
    assert len(list(source.pictures)) == 24 and source.damage is None
    cut = tmp_path / "cut"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    with av.open(str(cut)) as opened:
        sizes = [packet for packet in opened.demux(video=0) if packet.size and not packet.is_corrupt]
    source = media.open_source(cut, 64, 64)
    found = list(source.pictures)
    assert len(found) >= len(sizes) - 1 > 8  # the one that the cut went through may be lost
    assert source.damage is not None


@pytest.mark.parametrize("moov", ["lost", "cut"])
def test_an_mp4_without_its_index_is_named_as_such(tmp_path: Path, moov: str) -> None:
    path = clip(tmp_path / "unfinished.mp4", NOISE, container={} if moov == "lost" else {"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if moov == "lost" else data[: data.index(b"moov") + 100])
    with pytest.raises(media.MediaError, match=r"unfinished\.mp4: is an MP4 or MOV .*index \(moov\)"):
        list(media.open_source(path, 64, 64).pictures)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (bytes(5000), "zeros"),
        (b"%PDF-1.7 ...", "is a PDF"),
        (b"PK\x03\x04....", "ZIP"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"a note\n" * 1000, "is text"),
        (bytes(range(256)) * 20, "neither a readable picture nor a readable clip"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "brought.mp4"
    path.write_bytes(content)
    with pytest.raises(media.MediaError, match=f"brought.mp4: .*{what}"):
        list(media.open_source(path, 64, 64).pictures)


@pytest.mark.parametrize("transfer", [16, 18])
def test_highlights_of_hdr_keep_their_detail(tmp_path: Path, transfer: int) -> None:
    """Grey of 61 to 1000 cd/m², and for PQ beyond: each step is brighter than the one before, and white is near white."""
    levels = [61, 203, 300, 450, 650, 1000, *((2000, 4000) if transfer == 16 else ())]
    colours = [(255 * (level / 203) ** (1 / 2.4),) * 3 for level in levels]
    frames = [encoded(colours, transfer, 16 * len(levels))]  # type: ignore[arg-type]
    made = {"form": "matroska", "codec": "ffv1", "pixels": "yuv420p10le", "tags": (9, transfer, 9, 1)}
    path = clip(tmp_path / "hdr", frames, **made)
    shown = pictures(path, 16 * len(levels), 64)[0].pixels[32, 8::16]
    assert np.ptp(shown.astype(int), axis=1).max() <= 2
    assert abs(int(shown[0, 0]) - colours[0][0]) <= 3 and 225 <= shown[1, 0] <= 240
    assert (np.diff(shown[:6, 0].astype(int)) >= 2).all() and (np.diff(shown[:, 0].astype(int)) >= 0).all()


def test_a_broken_frame_in_the_middle_costs_only_itself(tmp_path: Path) -> None:
    whole = clip(tmp_path / "whole.mp4", NOISE, options={"g": "1", "bf": "0"})
    with av.open(str(whole)) as opened:
        packet = [packet for packet in opened.demux(video=0) if packet.size][9]
    data = bytearray(whole.read_bytes())
    data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    whole.write_bytes(data)
    source = media.open_source(whole, 64, 64)
    assert len(list(source.pictures)) == 23 and "1 of 24 frames" in str(source.damage)


def test_interlaced_frames_are_deinterlaced(tmp_path: Path) -> None:
    """A bright bar that moves between the two fields: woven together, neighbouring lines would differ."""
    frames = []
    for index in range(6):
        woven = flat(20, 128, 64)
        for field in (0, 1):
            left = 8 + 16 * index + 8 * field
            woven[field::2, left : left + 16] = 220
        frames.append(woven)
    flags = {"flags": "+ilme+ildct", "x264-params": "tff=1:interlaced=1"}
    path = clip(tmp_path / "woven.mp4", frames, options={**flags, "crf": "10"})
    with av.open(str(path)) as opened:
        assert all(frame.interlaced_frame for frame in opened.decode(video=0))
    found = pictures(path, 128, 64)
    assert len(found) == 6
    for picture in found[1:-1]:
        lines = picture.pixels[..., 1].astype(int)
        assert np.abs(lines[1:] - lines[:-1])[4:-4].mean() < 6  # woven: above 25


@pytest.mark.parametrize("transfer", [16, 18, 14])
def test_hdr_and_wide_colours_become_bt709(tmp_path: Path, transfer: int) -> None:
    colours = [RED, GREEN, BLUE, YELLOW]
    frames = [encoded(colours, transfer) for _ in range(2)]
    made = {"form": "matroska", "codec": "ffv1", "pixels": "yuv420p10le", "tags": (9, transfer, 9, 1)}
    path = clip(tmp_path / "hdr", frames, **made)
    found = pictures(path, 128, 64)[0].pixels
    shown = [tuple(found[32, x].tolist()) for x in (16, 48, 80, 112)]
    assert near(shown, colours, 24)
    assert all(max(colour) - min(colour) > 120 for colour in shown)  # no grey veil


def test_ten_bits_are_scaled(tmp_path: Path) -> None:
    path = clip(tmp_path / "ten.mkv", [quarters(64, 64)], form="matroska", codec="ffv1", pixels="yuv422p10le")
    assert near(corners(pictures(path)[0].pixels), [RED, GREEN, BLUE, YELLOW])


@pytest.mark.parametrize(("size", "matrix"), [((1280, 720), 1), ((640, 480), 6)])
def test_an_untagged_clip_has_the_matrix_that_players_choose(tmp_path: Path, size: tuple[int, int], matrix: int) -> None:
    space = {1: "ITU709", 6: "ITU601"}[matrix]
    frame = av.VideoFrame.from_ndarray(quarters(*size), format="rgb24").reformat(format="yuv420p", dst_colorspace=space)
    frame.colorspace = 2
    path = clip(tmp_path / "untagged.mp4", [frame])
    with av.open(str(path)) as opened:
        assert next(opened.decode(video=0)).colorspace == 2
    assert near(corners(pictures(path)[0].pixels), [RED, GREEN, BLUE, YELLOW])


@pytest.mark.parametrize(
    ("form", "codec", "pixels"),
    [
        ("webm", "libvpx-vp9", "yuva420p"),
        ("webm", "libvpx", "yuva420p"),
        ("mov", "prores_ks", "yuva444p10le"),
        ("mov", "png", "rgba"),
    ],
)
def test_transparent_clips_lie_on_the_background(tmp_path: Path, form: str, codec: str, pixels: str) -> None:
    frame = np.zeros((64, 64, 4), np.uint8)
    frame[..., :3] = (250, 0, 250)  # hidden
    frame[16:48, 16:48] = (0, 0, 0, 255)
    options = {"auto-alt-ref": "0"} if codec == "libvpx" else {}
    path = clip(tmp_path / "alpha", [frame] * 3, form=form, codec=codec, pixels=pixels, options=options)
    found = pictures(path, 32, 32)
    assert len(found) == 3
    for y, x, wanted in ((3, 3, media.NEUTRAL), (16, 16, (0, 0, 0)), (28, 3, media.NEUTRAL)):
        assert near([found[1].pixels[y, x]], [wanted], 10)
    chosen = pictures(path, 32, 32, media.ReadOptions(background=(10, 200, 90)))
    assert near([chosen[1].pixels[3, 3]], [(10, 200, 90)], 10)


def two_streams(path: Path, cover: bool) -> Path:
    """A small still or a cover first, the clip second."""
    with av.open(str(path), "w", format="mp4" if cover else "matroska") as out:
        first = out.add_stream("mjpeg", rate=1)
        first.width = first.height = 256 if cover else 32
        first.pix_fmt = "yuvj420p"
        if cover:
            first.disposition = av.stream.Disposition.attached_pic
        second = out.add_stream("libx264", rate=25)
        second.width = second.height = 64
        second.pix_fmt = "yuv420p"
        side = first.width
        out.mux(first.encode(av.VideoFrame.from_ndarray(flat(250, side, side), format="rgb24").reformat(format="yuvj420p")))
        out.mux(first.encode(None))
        for index in range(5):
            out.mux(second.encode(av.VideoFrame.from_ndarray(flat(20 + 40 * index), format="rgb24")))
        out.mux(second.encode(None))
    return path


@pytest.mark.parametrize("cover", [True, False])
def test_a_cover_or_a_smaller_stream_is_not_taken_for_the_clip(tmp_path: Path, cover: bool) -> None:
    found = pictures(two_streams(tmp_path / "two", cover))
    assert len(found) == 5 and found[-1].pixels.mean() == pytest.approx(180, abs=5)


@pytest.mark.parametrize(
    "name", ["a:b.mp4", "100%.mp4", "frame%03d.mp4", "http:x.MP4", "CLIP.MP4", "no ending", "clip.png", "x.xyz"]
)
def test_names_do_not_matter(tmp_path: Path, name: str) -> None:
    path = clip(tmp_path / name, [flat(90)] * 3)
    assert len(pictures(path)) == 3
