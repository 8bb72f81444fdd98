"""The picture that a session was sent last, for viewers beside its own connection."""

from __future__ import annotations

import asyncio


class LatestPicture:
    """Viewers wait on an event each, and read `picture` when it is set; slow viewers miss pictures. Event loop only."""

    def __init__(self) -> None:
        self.picture: tuple[str, bytes] | None = None  # format, compressed picture
        self._viewers: list[asyncio.Event] = []

    def publish(self, form: str, data: bytes) -> None:
        """A new picture; form is "jpeg" or "png"."""
        self.picture = form, data
        self.wake_viewers()

    def subscribe(self) -> asyncio.Event:
        """An event that is set for each new picture, and by `wake_viewers`."""
        event = asyncio.Event()
        self._viewers.append(event)
        return event

    def unsubscribe(self, event: asyncio.Event) -> None:
        self._viewers.remove(event)

    def wake_viewers(self) -> None:
        """Set every viewer's event, so that viewers see what else has changed."""
        for event in self._viewers:
            event.set()
