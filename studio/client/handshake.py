"""A connection from its first byte to the server's welcome."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from studio import environment
from studio.wire import protocol, token_file
from studio.wire.protocol import PictureEncoding

WELCOME_S = 60.0
"""The server has this long for each message until its welcome."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a client sends of itself with each connection. url: of the stream, as of stream_url; the rest as of StudioClient."""

    url: str
    token: str | None = field(repr=False)
    origin: str | None
    tls: ssl.SSLContext | None
    encoding: PictureEncoding
    delivery: str

    async def connect(
        self, at: str | None, resume: str | None, settings: Mapping[str, object], on_error: Callable[[dict[str, Any]], None]
    ) -> tuple[ClientConnection, dict[str, Any]]:
        """A connection after its welcome, and the welcome. Until then nothing but hello may be sent on it.

        at: the server's name, where there are several, so that the gateway finds the session. resume: the session to take up,
        or None for a new one with these settings. on_error: gets the server's errors before its welcome. Raises the errors of
        websockets, OSError, TimeoutError and ProtocolError.
        """
        socket = await connect(
            f"{self.url}?{urlencode({'at': at})}" if at else self.url,
            subprotocols=[Subprotocol(protocol.SUBPROTOCOL)],
            origin=None if self.origin is None else Origin(self.origin),
            compression=None,
            max_size=16 * 1024 * 1024,
            max_queue=4,
            proxy=None,
            ssl=self.tls,
        )
        try:
            await socket.send(protocol.pack_text("hello", **self._hello(resume, settings)))
            return socket, await _welcome(socket, on_error)
        except BaseException:
            socket.transport.abort()
            raise

    def _hello(self, resume: str | None, settings: Mapping[str, object]) -> dict[str, Any]:
        hello: dict[str, Any] = {
            "protocol": protocol.VERSION,
            "client": "studio.client",
            "token": self._secret(),
            "resume": resume,
            "picture": {"format": self.encoding.format, "quality": self.encoding.quality},
        }
        if self.delivery != "newest":
            hello["delivery"] = self.delivery
        if resume is None and settings:
            hello["settings"] = dict(settings)
        return hello

    def _secret(self) -> str | None:
        """The token to show; a server that has restarted may have another one than before."""
        if self.token is not None or self.origin is not None:
            return self.token
        return token_file.for_address(self.url, environment.private_dirs())


async def _welcome(socket: ClientConnection, on_error: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    while True:
        async with asyncio.timeout(WELCOME_S):
            message = protocol.parse_server_text(str(await socket.recv(decode=True)))
        if message["type"] == "welcome":
            return message
        if message["type"] == "error":
            on_error(message)
