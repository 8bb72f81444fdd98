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
class RequestedFit:
    """A fit of a session. sent: the share in its client's last message. best: gain of the style that it took last."""

    source: Pixels
    stream: Stream
    over: bool = False
    sent: float = -1.0
    best: float = 0.0


class StyleFits:
    """Requests fits: of the present picture of each session that is connected and has fits switched on."""

    def __init__(
        self, fitter: Fitter, model: Callable[[], str], fits: Callable[[Stream, PictureStyle], bool], metrics: Metrics
    ) -> None:
        """model: the name of what runs. fits: whether a style is of the painter that the session streams with."""
        metrics.watch("rill_fits", "Pictures whose style is being fitted, 0 or 1.", lambda: self.fitter.running)
        metrics.watch("rill_fits_waiting", "Pictures that wait to be fitted.", lambda: self.fitter.waiting)
        self.fitter = fitter
        self._model, self._fits = model, fits
        self._requested: dict[str, RequestedFit] = {}

    def update(self, stream: Stream) -> None:
        """Request or drop the session's fit; to be called whenever its picture or its switch may have changed."""
        name, source = stream.session.name, self._source(stream)
        fit = self._requested.get(name)
        if fit is not None and fit.source is source:
            return
        self.drop(name)
        if source is not None:
            fit = self._requested[name] = RequestedFit(source, stream)
            loop = asyncio.get_running_loop()
            self.fitter.request(Fit(name, self._model(), source, partial(self._from_thread, loop, fit)))

    def drop(self, session: str) -> None:
        """The session has left, or has fits switched off."""
        fit = self._requested.pop(session, None)
        if fit is None or fit.over:
            return
        self.fitter.drop(session)
        fit.stream.outbound.mailbox.post_or_drop(pack_text("fit", state="stopped"))

    def _source(self, stream: Stream) -> Pixels | None:
        """The picture to fit; None for none."""
        session, picture = stream.session, stream.session.picture
        wanted = session.wants_fit and stream.attached and isinstance(picture, PictureStyle)
        return picture.source if wanted and isinstance(picture, PictureStyle) and self._fits(stream, picture) else None

    def _from_thread(self, loop: asyncio.AbstractEventLoop, fit: RequestedFit, news: FitNews) -> None:
        with contextlib.suppress(RuntimeError):  # the server stops
            loop.call_soon_threadsafe(self._on_news, fit, news)

    def _on_news(self, fit: RequestedFit, news: FitNews) -> None:
        session = fit.stream.session
        if self._requested.get(session.name) is not fit:
            return  # it was dropped while the news came
        fit.over = news.state in ("done", "failed")
        if news.style is not None and news.gain > fit.best and isinstance(session.picture, PictureStyle):
            fit.best = news.gain
            session.picture = replace(news.style, source=fit.source, name=session.picture.name)
            fit.stream.picture_changed()
        if news.state == "fitting" and news.style is None and news.done < fit.sent + STEP:
            return
        fit.sent = news.done
        fit.stream.outbound.mailbox.post_or_drop(_text(news))


def _text(news: FitNews) -> str:
    if news.state == "waiting":
        return pack_text("fit", state="waiting", place=news.place)
    numbers = {"done": round(news.done, 3), "gain": round(news.gain, 3), "share": round(news.share, 2)}
    return pack_text("fit", state=news.state, **numbers, message=news.reason)
