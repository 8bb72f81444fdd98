"""The changes of the spec that one connection begins, and what its client learns of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from studio.model.prompt_loras import PromptLoras
from studio.stream.mailbox import Mailbox
from studio.stream.stream import Stream
from studio.visit.hub import Hub
from studio.wire.protocol import ProtocolError, error_text, pack_text


class SpecChanges:
    """A change does not depend on its connection; only the reports on it do. `close` ends them."""

    def __init__(self, hub: Hub, stream: Stream, mailbox: Mailbox, has_token: bool) -> None:
        self._hub, self._stream, self._mailbox, self._has_token = hub, stream, mailbox, has_token
        self._prompt_loras = PromptLoras()
        self._reports: set[asyncio.Task[None]] = set()

    def begin(self, changes: Mapping[str, object], request: int | None) -> None:
        """Begin a change, and report on it. Raises ProtocolError if it is refused."""
        try:
            work = self._hub.change(changes, self._stream.session.name, self._has_token, request)
        except ProtocolError as error:
            error.request = request
            raise
        report = asyncio.create_task(self._report(work, request))
        self._reports.add(report)
        report.add_done_callback(self._reports.discard)

    def begin_loras(self) -> None:
        """Begin to change the LoRAs to those that the prompts name, where they differ. Raises ProtocolError."""
        present, files = self._hub.spec().loras, self._hub.config.changes.loras
        if (wanted := self._prompt_loras.wanted(present, self._stream.session.settings, files)) is not None:
            self.begin({"loras": wanted}, None)

    async def close(self) -> None:
        """End all reports."""
        reports = list(self._reports)
        for report in reports:
            report.cancel()
        await asyncio.gather(*reports, return_exceptions=True)

    async def _report(self, work: asyncio.Task[ProtocolError | None], request: int | None) -> None:
        """Once a second that the change is in progress, and why it failed if it does. Its success is sent to every client."""
        since = self._hub.clock()
        while not work.done():
            elapsed = round(self._hub.clock() - since, 1)
            self._mailbox.post_or_drop(
                pack_text("building", message="the new pipeline is being built", elapsed_s=elapsed, request=request)
            )
            await asyncio.wait([work], timeout=1.0)
        error = None if work.cancelled() else work.result()
        if error is not None:
            self._hub.metrics.errors.labels(error.code).inc()
            await self._mailbox.post_blocking(error_text(error.code, error.message, field=error.field, request=request))
