"""Picture headers before decoding, and the codec behind them."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipelines import NEUTRAL
from studio.pictures import codec, picture_header
from studio.wire.limits import Limits
from studio.wire.protocol import PictureEncoding, ProtocolError

LIMITS = Limits()


def saved(form: str, width: int = 40, height: int = 24, mode: str = "RGB", **options: object) -> bytes:
    target = io.BytesIO()
    pixels = np.random.default_rng(3).integers(0, 255, (height, width, 4), dtype=np.uint8)
    Image.fromarray(pixels[..., :4], "RGBA").convert(mode).save(target, form, **options)  # type: ignore[arg-type]
    return target.getvalue()


PLAIN = {
    "jpeg": saved("JPEG"),
    "jpeg grey": saved("JPEG", mode="L"),
    "png": saved("PNG"),
    "png alpha": saved("PNG", mode="RGBA"),
    "png palette": saved("PNG", mode="P"),
    "webp": saved("WEBP"),
    "webp lossless": saved("WEBP", lossless=True),
    "webp alpha": saved("WEBP", mode="RGBA"),
}


WITH_ALPHA = ("png alpha", "png palette", "webp alpha")  # Pillow writes a tRNS for this palette


@pytest.mark.parametrize("name", PLAIN)
def test_headers_agree_with_the_decoder(name: str) -> None:
    data, form = memoryview(PLAIN[name]), name.split()[0]
    assert picture_header.read_header(data) == picture_header.PictureHeader(form, 40, 24, name in WITH_ALPHA)
    assert codec.decode(data, form, 40, 24, LIMITS).shape == (24, 40, 3)


def transparent(kind: str) -> bytes:
    """40 x 24: red that is hidden behind transparent pixels on the left, opaque blue on the right."""
    pixels = np.zeros((24, 40, 4), np.uint8)
    pixels[:, :20, 0], pixels[:, 20:, 2:] = 255, 255
    full, target = Image.fromarray(pixels), io.BytesIO()
    match kind:
        case "png palette":
            full.convert("RGB").quantize(2).save(target, "PNG", transparency=bytes([0, 255]))
        case "png key":
            full.convert("RGB").save(target, "PNG", transparency=(255, 0, 0))
        case "png 16":
            wide = pixels[..., [2, 1, 0, 3]].astype(np.uint16) * 257
            return bytes(cv2.imencode(".png", wide)[1].tobytes())
        case "webp":
            full.save(target, "WEBP", quality=95)
        case "webp lossless":
            full.save(target, "WEBP", lossless=True, exact=True)
        case _:
            full.save(target, "PNG")
    return target.getvalue()


@pytest.mark.parametrize("kind", ["png", "png palette", "png key", "png 16", "webp", "webp lossless"])
def test_hidden_colours_of_a_frame_are_never_seen(kind: str) -> None:
    data = transparent(kind)
    if kind == "png palette":  # the palette's order is the quantizer's
        hidden, shown = (0, 39) if codec.read(memoryview(data), "png", LIMITS)[0, 0, 0] == 128 else (39, 0)
    else:
        hidden, shown = 0, 39
    found = codec.read(memoryview(data), kind.split()[0], LIMITS)
    assert np.abs(found[:, hidden].astype(int) - NEUTRAL).max() <= 2
    assert np.ptp(found[:, shown].astype(int), axis=1).min() > 200


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_of_a_mask_change_nothing(mode: str) -> None:
    pixels = np.full((8, 8, 4), 255, np.uint8)
    pixels[:, :4, 3] = 0
    target = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(target, "PNG")
    mask = codec.decode_mask(target.getvalue(), LIMITS)
    assert mask.shape == (8, 8) and not mask[:, :4].any() and (mask[:, 4:] == 255).all()


def test_a_transparent_picture_that_is_cut_off_is_refused() -> None:
    data = saved("PNG", 64, 64, "RGBA")
    with pytest.raises(ProtocolError, match="truncated or broken"):
        codec.read(memoryview(data[: len(data) // 2]), "png", LIMITS)


def test_colours_are_rgb_both_ways() -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:] = (200, 30, 60)
    for form in ("jpeg", "png"):
        data = codec.encode(pixels, PictureEncoding(form, 95))
        assert np.abs(codec.decode(memoryview(data), form, 16, 16, LIMITS).astype(int) - pixels).max() <= 3


def exif_turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved("JPEG", exif=exif)


def test_orientation_is_left_alone() -> None:
    assert codec.decode(memoryview(exif_turned()), "jpeg", 40, 24, LIMITS).shape == (24, 40, 3)


@pytest.mark.parametrize(
    ("data", "declared", "message"),
    [
        (saved("JPEG", progressive=True), "jpeg", "progressive"),
        (saved("PNG", save_all=True, append_images=[Image.new("RGB", (40, 24))]), "png", "animated"),
        (saved("WEBP", save_all=True, append_images=[Image.new("RGB", (40, 24))]), "webp", "animated"),
        (saved("PNG"), "jpeg", "is png, not jpeg"),
        (saved("GIF"), "png", "neither"),
        (saved("BMP"), "png", "neither"),
        (saved("PNG", 3000, 8), "png", "3000x8"),
        (b"", "png", "neither"),
        (b"\xff\xd8\xff", "jpeg", "ends within"),
        (b"\xff\xd8\xff\xd9", "jpeg", "no frame header"),
        (b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x0dIDAT" + bytes(20), "png", "does not begin"),
        (bytes(Limits().max_frame_bytes + 1), "png", "bytes"),
    ],
)
def test_what_is_refused_before_decoding(data: bytes, declared: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ProtocolError, match=message) as caught:
        codec.decode(memoryview(data), declared, 64, 64, LIMITS)
    assert caught.value.code == "bad_frame"


@given(
    st.binary(max_size=300)
    | st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]).flatmap(
        lambda start: st.binary(max_size=200).map(lambda rest: start + rest)
    )
)
def test_any_bytes_have_a_header_or_are_refused(data: bytes) -> None:
    try:
        assert picture_header.read_header(memoryview(data)).width >= 0
    except ProtocolError as error:
        assert error.code == "bad_frame"


@given(st.sampled_from(sorted(PLAIN)), st.data())
def test_damaged_pictures_are_decoded_or_refused(name: str, draw: st.DataObject) -> None:
    data = bytearray(PLAIN[name])
    for _ in range(draw.draw(st.integers(1, 6))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        pixels = codec.decode(memoryview(bytes(data)), name.split()[0], 32, 32, LIMITS)
    except ProtocolError as error:
        assert error.code == "bad_frame"
    else:
        assert pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8


@given(st.integers(1, 70), st.integers(1, 70))
def test_any_size_is_fitted(width: int, height: int) -> None:
    pixels = np.full((height, width, 3), 77, np.uint8)
    fitted_settings = codec.fit(pixels, 32, 16)
    assert fitted_settings.shape == (16, 32, 3) and (fitted_settings == 77).all() and fitted_settings.flags.c_contiguous


def test_the_crop_is_in_the_centre() -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    assert (codec.fit(pixels, 10, 10) == 255).all()
    assert (codec.fit(np.ascontiguousarray(pixels.transpose(1, 0, 2)), 20, 20)[2:-2] == 255).all()
