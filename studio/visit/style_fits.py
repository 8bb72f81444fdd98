"""Which session's picture is fitted in the background, and what becomes of the numbers. Event loop only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from pipelines import PictureStyle, Pixels
from studio.model.fitter import Fit, FitNews, Fitter
from studio.stream.metrics import Metrics
from studio.stream.stream import Stream
from studio.wire.protocol import pack_text

STEP = 0.02
"""Share of a fit between two messages about it."""


@dataclass(slots=True)
class Asked:
    """A fit that a session asked for. told: the share in its client's last message. best: gain of the style that it took last."""

    source: Pixels
    stream: Stream
    over: bool = False
    told: float = -1.0
    best: float = 0.0


class StyleFits:
    """Asks the fitter for what sessions want: the present picture of each, while it is connected and lets it be fitted."""

    def __init__(
        self, fitter: Fitter, model: Callable[[], str], fits: Callable[[Stream, PictureStyle], bool], metrics: Metrics
    ) -> None:
        """model: the name of what runs. fits: whether a style is of the painter that the session streams with."""
        metrics.watch("rill_fits", "Pictures whose style is being fitted, 0 or 1.", lambda: self.fitter.running)
        metrics.watch("rill_fits_waiting", "Pictures that wait to be fitted.", lambda: self.fitter.waiting)
        self.fitter = fitter
        self._model, self._fits = model, fits
        self._asked: dict[str, Asked] = {}

    def update(self, stream: Stream) -> None:
        """Look at what the session wants now; to be called whenever that may have changed."""
        name, source = stream.session.name, self._source(stream)
        asked = self._asked.get(name)
        if asked is not None and asked.source is source:
            return
        self.drop(name)
        if source is not None:
            asked = self._asked[name] = Asked(source, stream)
            loop = asyncio.get_running_loop()
            self.fitter.ask(Fit(name, self._model(), source, partial(self._from_thread, loop, asked)))

    def drop(self, session: str) -> None:
        """The session has left, or wants no fit."""
        asked = self._asked.pop(session, None)
        if asked is None or asked.over:
            return
        self.fitter.drop(session)
        asked.stream.outbound.mailbox.post_or_drop(pack_text("fit", state="stopped"))

    def _source(self, stream: Stream) -> Pixels | None:
        """The picture that the session wants to have fitted."""
        session, picture = stream.session, stream.session.picture
        wanted = session.wants_fit and stream.attached and isinstance(picture, PictureStyle)
        return picture.source if wanted and isinstance(picture, PictureStyle) and self._fits(stream, picture) else None

    def _from_thread(self, loop: asyncio.AbstractEventLoop, asked: Asked, news: FitNews) -> None:
        with contextlib.suppress(RuntimeError):  # the server stops
            loop.call_soon_threadsafe(self._hear, asked, news)

    def _hear(self, asked: Asked, news: FitNews) -> None:
        session = asked.stream.session
        if self._asked.get(session.name) is not asked:
            return  # it was dropped while the news came
        asked.over = news.state in ("done", "failed")
        if news.style is not None and news.gain > asked.best and isinstance(session.picture, PictureStyle):
            asked.best = news.gain
            session.picture = replace(news.style, source=asked.source, name=session.picture.name)
            asked.stream.picture_changed()
        if news.state == "fitting" and news.style is None and news.done < asked.told + STEP:
            return
        asked.told = news.done
        asked.stream.outbound.mailbox.post_or_drop(_text(news))


def _text(news: FitNews) -> str:
    if news.state == "waiting":
        return pack_text("fit", state="waiting", place=news.place)
    numbers = {"done": round(news.done, 3), "gain": round(news.gain, 3), "share": round(news.share, 2)}
    return pack_text("fit", state=news.state, **numbers, message=news.reason)
