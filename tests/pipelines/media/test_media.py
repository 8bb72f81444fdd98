import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from benchmarks import clips
from pipelines import media

CLIP = clips.clip("handheld", 128, 128, frames=12)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    writer = media.open_writer(path, 25.0, 128, 128)
    for picture in CLIP:
        writer.write(picture)
    writer.close()
    return path


def test_a_clip_comes_back_in_order_and_nearly_unchanged(film: Path) -> None:
    back = list(media.read(film, 128, 128))
    assert len(back) == len(CLIP)
    for picture, original in zip(back, CLIP, strict=True):
        assert np.abs(picture.astype(int) - original).mean() < 6  # 4:2:0 chroma and H.264 at crf 18


def test_the_clip_is_what_browsers_play(film: Path) -> None:
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
    content = film.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays before it is loaded


@pytest.mark.parametrize("size", [(128, 128), (192, 128), (128, 256), (320, 320)])
def test_clips_are_covered_and_cropped_at_the_centre(film: Path, size: tuple[int, int]) -> None:
    with media.ClipReader(film, *size) as reader:
        first = next(iter(reader))
    assert first.shape == (size[1], size[0], 3) and first.flags.c_contiguous


def test_pictures_are_cropped_at_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = (250, 10, 20)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    out = media.read_picture(tmp_path / "wide.png", 128, 128)
    assert out.shape == (128, 128, 3) and np.abs(out[:, 4:-4].astype(int) - (250, 10, 20)).max() <= 3


def test_alpha_grey_and_exif_rotation(tmp_path: Path) -> None:
    Image.new("RGBA", (64, 64), (9, 8, 7, 0)).save(tmp_path / "a.png")
    Image.new("L", (64, 64), 77).save(tmp_path / "l.png")
    turned = Image.fromarray(np.repeat(np.arange(64, dtype=np.uint8)[:, None], 64, 1))
    exif = turned.getexif()
    exif[0x0112] = 3
    turned.save(tmp_path / "r.png", exif=exif)
    assert media.read_picture(tmp_path / "a.png", 64, 64).shape == (64, 64, 3)
    assert (media.read_picture(tmp_path / "l.png", 64, 64) == 77).all()
    assert media.read_picture(tmp_path / "r.png", 64, 64)[0, 0, 0] == 63


def huge_png(path: Path) -> Path:
    """A header that promises 10,000 x 10,000 pixels over no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    return path


def test_bad_files_are_named(tmp_path: Path, film: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "text.mp4").write_text("no clip")
    (tmp_path / "empty.mp4").write_bytes(b"")
    Image.new("RGB", (64, 64)).save(tmp_path / "cut.png")
    cut = tmp_path / "cut.png"
    cut.write_bytes(cut.read_bytes()[:40])
    for name in ("text.png", "text.mp4", "empty.mp4", "cut.png", "absent.png", "absent.mp4"):
        with pytest.raises(media.MediaError, match=name):
            list(media.read(tmp_path / name, 64, 64))
    with pytest.raises(media.MediaError, match="too large"):
        media.read_picture(huge_png(tmp_path / "huge.png"), 64, 64)


def test_sound_alone_is_no_clip(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(media.MediaError, match="no video stream"):
        media.ClipReader(path, 64, 64)


@pytest.mark.parametrize("name", ["out.avi", "out.xyz", "missing/out.mp4", "missing/out"])
def test_outputs_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(media.MediaError):
        media.open_writer(tmp_path / name, 25, 64, 64)
