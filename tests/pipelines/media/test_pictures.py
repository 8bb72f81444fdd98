"""Pictures and animations: their bits, profiles, transparency, orientation, frames and kinds."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipelines import media
from tests.pipelines.media.heic import TILED
from tests.pipelines.media.makers import BLUE, GREEN, RED, YELLOW, codes_of, corners, flat, near, quarters

STRETCH = media.ReadOptions("stretch")


def picture(path: Path, width: int = 64, height: int = 64, options: media.ReadOptions = STRETCH) -> np.ndarray:
    return media.read_picture(path, width, height, options)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_a_ramp_from_black_to_white(tmp_path: Path, form: str) -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(64, 0)
    Image.fromarray(ramp).save(tmp_path / "ramp", form)
    shown = picture(tmp_path / "ramp")[30, :, 0].astype(int)
    assert np.abs(shown - np.linspace(0, 255, 64)).max() <= 1


def test_real_numbers_are_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32)[None].repeat(64, 0)).save(tmp_path / "ramp.tif")
    shown = picture(tmp_path / "ramp.tif")[30, :, 0].astype(int)
    assert np.abs(shown - np.linspace(0, 255, 64)).max() <= 1


def rgb16(path: Path) -> Path:
    """A 16-bit RGB PNG of quarters, with OpenCV, since Pillow writes none."""
    import cv2

    cv2.imwrite(str(path), cv2.cvtColor(quarters(64, 64).astype(np.uint16) * 257, cv2.COLOR_RGB2BGR))
    return path


def test_sixteen_bit_colours(tmp_path: Path) -> None:
    assert near(corners(picture(rgb16(tmp_path / "deep.png"))), [RED, GREEN, BLUE, YELLOW], 1)
    rgb16(tmp_path / "deep.tiff")
    assert near(corners(picture(tmp_path / "deep.tiff")), [RED, GREEN, BLUE, YELLOW], 1)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_show_the_background(tmp_path: Path, form: str, mode: str) -> None:
    made = np.zeros((64, 64, 4), np.uint8)
    made[..., :3] = 250  # hidden
    made[16:48, 16:48] = (0, 0, 0, 255)
    given = Image.fromarray(made)
    if mode == "P":
        given = Image.fromarray((made[..., 3] > 0).astype(np.uint8), "P")
        given.putpalette([250, 250, 250, 0, 0, 0])
        given.info["transparency"] = 0
    elif form == "AVIF" and mode == "LA":
        given = given.convert("LA").convert("RGBA")
    else:
        given = given.convert(mode)
    if form == "TIFF" and mode == "P":
        pytest.skip("a TIFF's palette has no transparency")
    given.save(tmp_path / "x", form, lossless=True)
    shown = picture(tmp_path / "x", 32, 32)
    assert near([shown[2, 2], shown[16, 16]], [media.NEUTRAL, (0, 0, 0)], 3)
    chosen = picture(tmp_path / "x", 32, 32, media.ReadOptions(background=(1, 2, 3)))
    assert near([chosen[2, 2]], [(1, 2, 3)], 2)


def test_colours_behind_transparent_pixels_are_not_mixed_in(tmp_path: Path) -> None:
    """Scaled down by four, where hidden white lies next to black."""
    made = np.full((256, 256, 4), 255, np.uint8)
    made[..., 3] = 0
    made[:, ::2] = (0, 0, 0, 255)
    Image.fromarray(made).save(tmp_path / "x.png")
    assert picture(tmp_path / "x.png").max() <= 128


WIDE = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()


def linear_profile() -> bytes:
    """sRGB's colours with a gamma of 1: a matrix profile of version 2."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    place = profile.find(b"para")
    while place >= 0:  # parametric curves: gamma alone
        profile[place + 8 : place + 10] = b"\x00\x00"
        profile[place + 12 : place + 16] = (65536).to_bytes(4, "big")
        place = profile.find(b"para", place + 16)
    return bytes(profile)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_profile_is_converted(tmp_path: Path, form: str) -> None:
    linear = np.rint((quarters(64, 64) / 255) ** 2.2 * 255).astype(np.uint8)
    options = {"lossless": True} if form == "WEBP" else {"quality": 98, "subsampling": 0} if form == "JPEG" else {}
    Image.fromarray(linear).save(tmp_path / "x", form, icc_profile=linear_profile(), **options)
    assert near(corners(picture(tmp_path / "x")), [RED, GREEN, BLUE, YELLOW], 14)


@pytest.mark.parametrize("transfer", [16, 18])
def test_an_hdr_png_is_converted(tmp_path: Path, transfer: int) -> None:
    """By its cICP chunk."""
    bars = np.rint(codes_of([RED, GREEN, BLUE, YELLOW], transfer) * 255).astype(np.uint8)
    Image.fromarray(bars[None].repeat(16, 1).repeat(64, 0)).save(tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    chunk = b"cICP" + bytes([9, transfer, 0, 1])
    chunk = struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "x.png").write_bytes(data[:33] + chunk + data[33:])
    shown = picture(tmp_path / "x.png", 64, 64)
    assert near([shown[30, x] for x in (8, 24, 40, 56)], [RED, GREEN, BLUE, YELLOW], 28)


@pytest.mark.parametrize("profile", [b"nonsense", WIDE])
def test_a_profile_that_cannot_be_used_is_ignored(tmp_path: Path, profile: bytes) -> None:
    Image.fromarray(quarters(64, 64)).save(tmp_path / "x.png", icc_profile=profile)
    assert near(corners(picture(tmp_path / "x.png")), [RED, GREEN, BLUE, YELLOW], 1)


def test_cmyk(tmp_path: Path) -> None:
    Image.fromarray(quarters(64, 64)).convert("CMYK").save(tmp_path / "x.jpg", quality=98, subsampling=0)
    assert near(corners(picture(tmp_path / "x.jpg")), [RED, GREEN, BLUE, YELLOW], 8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_orientations(tmp_path: Path, form: str, orientation: int) -> None:
    given = Image.fromarray(quarters(96, 64))
    exif = given.getexif()
    exif[0x0112] = orientation
    given.save(tmp_path / "x", form, exif=exif, quality=95)
    a, b, c, d = RED, GREEN, BLUE, YELLOW
    shown = {1: [a, b, c, d], 2: [b, a, d, c], 3: [d, c, b, a], 4: [c, d, a, b], 5: [a, c, b, d], 6: [c, a, d, b]}
    shown |= {7: [d, b, c, a], 8: [b, d, a, c]}
    assert near(corners(picture(tmp_path / "x")), shown[orientation], 16)


DELAYS = [100, 40, 300, 1000]


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "AVIF"])
def test_animations_give_all_frames_at_their_times(tmp_path: Path, form: str) -> None:
    frames = [Image.fromarray(flat(20 + 60 * index)) for index in range(4)]
    frames[0].save(tmp_path / "x", form, save_all=True, append_images=frames[1:], duration=DELAYS)
    source = media.open_source(tmp_path / "x", 64, 64)
    found = list(source.pictures)
    assert [float(picture.until - picture.at) for picture in found] == pytest.approx([delay / 1000 for delay in DELAYS])
    assert [picture.pixels.mean() for picture in found] == pytest.approx([20, 80, 140, 200], abs=4) and source.count == 4


def test_a_delay_of_nothing_is_a_tenth_of_a_second_as_in_browsers(tmp_path: Path) -> None:
    frames = [Image.fromarray(flat(60 * index)) for index in range(3)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=0)
    found = list(media.open_source(tmp_path / "x.gif", 64, 64).pictures)
    assert [picture.at for picture in found] == [0, Fraction(1, 10), Fraction(2, 10)]


def test_the_first_picture_of_an_apng_may_be_for_programs_without_animation(tmp_path: Path) -> None:
    frames = [Image.fromarray(flat(100 * index)) for index in range(3)]
    frames[0].save(tmp_path / "x.png", save_all=True, append_images=frames[1:], duration=200, default_image=True)
    found = list(media.open_source(tmp_path / "x.png", 64, 64).pictures)
    assert [round(picture.pixels.mean()) for picture in found] == [100, 200]


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_an_animation_that_is_cut_off_gives_its_whole_frames(tmp_path: Path, form: str) -> None:
    dice = np.random.default_rng(0)
    frames = [Image.fromarray(dice.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(6)]
    frames[0].save(tmp_path / "x", form, save_all=True, append_images=frames[1:], duration=100)
    data = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(data[: int(len(data) * 0.7)])
    source = media.open_source(tmp_path / "x", 64, 64)
    found = list(source.pictures)
    assert len(found) in (3, 4, 5) and "cut off" in str(source.damage)
    assert media.read_picture(tmp_path / "x", 64, 64).tobytes() == found[0].pixels.tobytes()


def test_of_a_webp_that_is_cut_in_its_first_frame_nothing_is_shown(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8)) for index in range(2)]
    frames[0].save(tmp_path / "x", "WEBP", save_all=True, append_images=frames[1:], duration=100)
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:300])
    with pytest.raises(media.MediaError, match="x: "):
        media.open_source(tmp_path / "x", 64, 64)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA"])
@pytest.mark.parametrize("name", ["picture", "PICTURE.JPG", "a:b%d.mp4"])
def test_the_content_gives_the_kind(tmp_path: Path, form: str, name: str) -> None:
    Image.fromarray(quarters(64, 64)).save(tmp_path / name, form)
    (only,) = media.open_source(tmp_path / name, 64, 64).pictures
    assert near(corners(only.pixels), [RED, GREEN, BLUE, YELLOW], 30)


def test_a_picture_of_a_phone_is_whole(tmp_path: Path) -> None:
    """HEIC in tiles, of which FFmpeg gives the first."""
    (tmp_path / "IMG_0001.HEIC").write_bytes(TILED)
    (only,) = media.open_source(tmp_path / "IMG_0001.HEIC", 64, 64).pictures
    assert near(corners(only.pixels), [RED, GREEN, BLUE, YELLOW], 16)


def test_a_folder_of_pictures_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for index in (10, 9, 1, 2):
        Image.fromarray(flat(20 * index)).save(tmp_path / f"Frame{index}.PNG")
    (tmp_path / "notes.txt").write_text("no picture")
    source = media.open_source(tmp_path, 64, 64, media.ReadOptions(fps=Fraction(5)))
    found = list(source.pictures)
    assert [round(picture.pixels.mean() / 20) for picture in found] == [1, 2, 9, 10]
    assert [picture.at for picture in found] == [0, Fraction(1, 5), Fraction(2, 5), Fraction(3, 5)]
    assert "notes.txt" in source.notes[0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(media.MediaError, match="empty: this folder holds no picture"):
        media.open_source(tmp_path / "empty", 64, 64)
