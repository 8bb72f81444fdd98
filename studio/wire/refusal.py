"""How the server ends a connection of its own accord."""

from __future__ import annotations

from studio.wire.protocol import CLOSE_CODES


class Refusal(Exception):
    """Ends a connection. `code` as in the error table of docs/protocol-messages.md; `close` is the close code."""

    def __init__(self, code: str, message: str, *, field: str | None = None, close: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.close = CLOSE_CODES[code] if close is None else close
