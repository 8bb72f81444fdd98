"""Makes the README's moving picture: `python -m benchmarks.showcase [OUT.webp]`.

It starts a studio and streams the sample clip through several looks, one after the other. Each picture has its source in a
corner.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import live
from pipelines import Pixels, media
from studio.client import StudioClient

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "pictures" / "showcase.webp"
LOOKS = ("starry blue swirl", "pink and teal ink", "indigo wave print", "crimson and gold brush", "parchment woodcut")
PICTURES = 9
"""Pictures of each look."""
SIDE, INSET, EDGE = 384, 112, 8
EVERY = 3
"""Every third frame of the clip is sent."""
WARM = 40
"""Pictures before the first one in the file: the painter's graph is built beside the stream."""
FRAME_MS = 120
QUALITY = 62
LARGEST = 3_000_000  # bytes


def combined(shown: Pixels, source: Pixels) -> Image.Image:
    """The output with its source in the lower left corner; SIDE x SIDE."""
    picture = Image.fromarray(shown).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    inset = Image.fromarray(source).resize((INSET, INSET), Image.Resampling.LANCZOS)
    frame = Image.new("RGB", (INSET + 4, INSET + 4), (255, 255, 255))
    frame.paste(inset, (2, 2))
    picture.paste(frame, (EDGE, SIDE - INSET - 4 - EDGE))
    return picture


async def stream(url: str, token: str, sources: list[Pixels]) -> list[Image.Image]:
    """The pictures that the studio at `url` makes of `sources`, PICTURES of each look."""
    made: list[Image.Image] = []
    async with StudioClient(url, token=token, settings={"prompt": LOOKS[0], "cache.enabled": False}) as client:
        for look in LOOKS:
            await client.patch({"prompt": look})
            by_id: dict[int, Pixels] = {}
            pictures: list[Image.Image] = []
            unseen = 2 if made else WARM  # pictures of the look before may still be in flight
            while len(pictures) < unseen + PICTURES:
                source = sources[(len(made) + len(pictures)) % len(sources)]
                by_id[await client.frame(source)] = source
                shown = await client.shown()
                if shown.pixels is not None and shown.answer.frame_id in by_id:
                    pictures.append(combined(shown.pixels, by_id[shown.answer.frame_id]))
            made += pictures[unseen:]
    return made


def main(target: Path) -> None:
    with media.ClipReader(ROOT / "assets" / "samples" / "sample.mp4", 512, 512) as clip:
        sources = [np.ascontiguousarray(pixels) for index, pixels in enumerate(clip) if index % EVERY == 0]
    token = secrets.token_urlsafe(24)
    with live.studio(["--size", "512"], token) as studio:
        pictures = asyncio.run(stream(studio.url, token, sources))
    pictures[0].save(target, save_all=True, append_images=pictures[1:], duration=FRAME_MS, loop=0, quality=QUALITY, method=4)
    size = target.stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{target} has {size} bytes; at most {LARGEST} are allowed")
    print(f"{target}: {len(pictures)} pictures, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
