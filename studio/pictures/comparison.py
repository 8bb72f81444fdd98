"""Pictures compared with the probe's references: SSIM, PSNR, flicker. One per session, in the codec pool."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines import Pixels, Quality, quality

REMEMBERED = 12
"""Source frames kept until their pictures leave the stream batch; more than any batch holds."""


@dataclass(frozen=True, slots=True)
class ShownFrame:
    """A picture beside the source frame it was made of; both uint8 [height, width, 3]."""

    frame_id: int
    source: Pixels
    picture: Pixels


class Comparison:
    """Remembers the picture shown last, and the sources of those to come; nothing while the probe is off."""

    def __init__(self) -> None:
        self._sources: dict[int, Pixels] = {}
        self._before: ShownFrame | None = None

    def remember_source(self, frame_id: int, pixels: Pixels | None, enabled: bool) -> None:
        """A frame goes to the model."""
        if not enabled or pixels is None:
            self._sources, self._before = {}, None
            return
        kept = list(self._sources.items())[1 - REMEMBERED :]
        self._sources = dict([*kept, (frame_id, pixels)])

    def compare(self, frame_id: int, picture: Pixels, reference: Pixels | None) -> Quality | None:
        """A picture leaves. Its quality if it has a reference; flicker is None without a picture and a source just before it."""
        source, before = self._sources.get(frame_id), self._before
        if source is not None and source.shape != picture.shape:
            source = None  # the size of the stream has changed between the two
        if before is not None and before.picture.shape != picture.shape:
            before = None
        if source is not None and (before is None or before.frame_id < frame_id):
            self._before = ShownFrame(frame_id, source, picture)
        if reference is None:
            return None
        flicker = None
        if source is not None and before is not None and before.frame_id < frame_id:
            flicker = quality.flicker(picture, before.picture, source, before.source)
        return quality.compare(picture, reference, flicker)
