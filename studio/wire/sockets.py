"""What the studio needs of a websocket, whatever framework it comes from."""

from __future__ import annotations

from typing import Protocol


class Disconnected(Exception):
    """The peer is gone."""


class Socket(Protocol):
    """A websocket that has been accepted. All methods raise Disconnected when the peer is gone; close never does."""

    async def receive(self) -> str | bytes: ...

    async def send(self, message: str | bytes) -> None: ...

    async def close(self, code: int, reason: str) -> None: ...
