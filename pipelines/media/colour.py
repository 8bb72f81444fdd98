"""Colours of pictures become sRGB with 8 bits: bit depth, ICC profiles, transparency, HDR.

Pillow reads the bits, its ImageCms (littleCMS) converts profiles, and FFmpeg's scaler tone-maps HDR (graph.py).
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from pipelines.media.graph import tone_mapped

WIDE_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
HDR_TRANSFERS = (16, 18)  # PQ and HLG in ITU-T H.273
WIDE_PRIMARIES = (9, 11, 12)  # BT.2020, DCI-P3, Display P3


def to_rgb(picture: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Mode RGB, sRGB; transparent pixels show the background."""
    code = _video_code(picture)
    profile = picture.info.get("icc_profile")
    picture = _eight_bits(picture)
    alpha = None
    if picture.has_transparency_data:
        full = picture.convert("RGBA")
        alpha, picture = full.getchannel("A"), full.convert("RGB")
    if code is not None and (code[1] in HDR_TRANSFERS or (code[0] in WIDE_PRIMARIES and not profile)):
        picture = Image.fromarray(tone_mapped(np.array(picture.convert("RGB")), *code))
    elif profile:
        picture = _from_profile(picture, profile)
    picture = picture.convert("RGB")
    if alpha is not None:
        ground = Image.new("RGB", picture.size, background)
        ground.paste(picture, mask=alpha)
        return ground
    return picture


def over(pixels: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """uint8 [H, W, 4] on the background: uint8 [H, W, 3]."""
    alpha = pixels[..., 3:].astype(np.uint16)
    mixed = pixels[..., :3] * alpha + np.array(background, np.uint16) * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Pillow's wide modes as L; all other modes as they are. Integers count from 0 to their type's end, reals from 0 to 1."""
    if picture.mode not in WIDE_MODES:
        return picture
    values = np.array(picture).astype(np.float64)
    full = 1.0 if picture.mode == "F" else 65535.0 if picture.mode != "I" or values.max(initial=0) <= 65535 else 2.0**31 - 1
    if picture.mode == "F" and values.max(initial=0) > 1.0:
        full = 255.0 if values.max() <= 255.0 else 65535.0
    return Image.fromarray(np.clip(np.nan_to_num(values) * (255 / full) + 0.5, 0, 255).astype(np.uint8))


def _from_profile(picture: Image.Image, profile: bytes) -> Image.Image:
    """The picture in sRGB. A profile that is broken, or of another kind of colours, is ignored as browsers do."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        picture = picture.convert({"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "Lab": "LAB"}[space])
        converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, KeyError, ValueError):
        return picture
    return converted or picture


def _video_code(picture: Image.Image) -> tuple[int, int] | None:
    """(primaries, transfer) of H.273 where a PNG (cICP), an AVIF or a HEIC (nclx) gives them."""
    nclx = picture.info.get("nclx_profile")
    if isinstance(nclx, dict):
        return int(nclx["color_primaries"]), int(nclx["transfer_characteristics"])
    name = getattr(picture, "filename", "")
    if picture.format not in ("PNG", "AVIF") or not name:
        return None
    with Path(name).open("rb") as file:
        head = file.read(4096)
    tag, layout = (b"cICP", ">BB") if picture.format == "PNG" else (b"colrnclx", ">HH")
    place = head.find(tag)
    if place < 0 or len(head) < place + len(tag) + 4:
        return None
    primaries, transfer = struct.unpack_from(layout, head, place + len(tag))
    return primaries, transfer
