"""What waits to be sent on one connection, and what happens when more comes than the client reads."""

from __future__ import annotations

import asyncio

from studio.stream.session import Session
from studio.wire.protocol import Answer

Message = str | bytes | Answer
"""A text message, a packed binary message, or an answer that is not packed yet."""


class Mailbox:
    """Messages and answers for one connection. Event loop only.

    Messages wait here, at most `capacity` of them. Answers wait in the session's outbox, where the newest picture replaces the
    one before. The three `post_` methods differ in what happens when `capacity` messages wait already.
    """

    def __init__(self, session: Session, capacity: int) -> None:
        self._session = session
        self._messages: asyncio.Queue[Message] = asyncio.Queue(capacity)
        self._wake = asyncio.Event()
        self._closed = False

    def post_or_drop(self, message: str | bytes) -> None:
        """Queue a message; drop it if the mailbox is full. For reports that the next one replaces."""
        if not self._closed and not self._messages.full():
            self._messages.put_nowait(message)
            self._wake.set()

    def post_evicting(self, message: Message) -> None:
        """Queue a message; if the mailbox is full, the oldest one is dropped. For what the client needs to go on."""
        if self._closed:
            return
        if self._messages.full():
            self._messages.get_nowait()
        self._messages.put_nowait(message)
        self._wake.set()

    async def post_blocking(self, message: str | bytes) -> None:
        """Queue a message; wait while the mailbox is full. For replies: the caller reads nothing more from the client meanwhile,
        so a client that sends requests and does not read the replies is slowed down."""
        if self._closed:
            return
        await self._messages.put(message)
        self._wake.set()

    def wake(self) -> None:
        """An answer may wait in the session's outbox."""
        if self._session.outbox:
            self._wake.set()

    def get_nowait(self) -> Message | None:
        """The next thing to send, None if there is nothing.

        Messages come first: the answers behind a `spec` message were made under that spec.
        """
        if self._closed:
            return None
        return self._session.next_answer() if self._messages.empty() else self._messages.get_nowait()

    async def get(self) -> Message:
        """The next thing to send; waits for it, for ever once the mailbox is closed."""
        while (message := self.get_nowait()) is None:
            self._wake.clear()
            await self._wake.wait()
        return message

    def close(self) -> None:
        """The connection has ended, or another one has taken its place: it gets none of the session's answers."""
        self._closed = True

    @property
    def closed(self) -> bool:
        return self._closed
