"""Which session's picture is fitted in the background, and what becomes of the numbers. Event loop only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
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
    """A fit of a session. of: the session's attribute with the style. sent: the share in its client's last message on the work.
    best: gain of the style that it took last."""

    of: str
    source: Pixels
    stream: Stream
    over: bool = False
    sent: float = -1.0
    best: float = 0.0


class StyleFits:
    """Requests fits: of the pictures of each session that is connected and has fits switched on, one after the other."""

    def __init__(
        self, fitter: Fitter, model: Callable[[], str], fits: Callable[[Stream, PictureStyle], bool], metrics: Metrics
    ) -> None:
        """model: the name of what runs. fits: whether a style is of the painter that the session streams with."""
        metrics.watch("rill_fits", "Pictures whose style is being fitted, 0 or 1.", lambda: self.fitter.running)
        metrics.watch("rill_fits_waiting", "Pictures that wait to be fitted.", lambda: self.fitter.waiting)
        self.fitter = fitter
        self._model, self._fits = model, fits
        self._requested: dict[str, RequestedFit] = {}
        self._fitted: dict[str, list[Pixels]] = {}  # pictures of a session whose fit is over

    def update(self, stream: Stream) -> None:
        """Request or drop the session's fit; to be called whenever its picture or its switch may have changed."""
        name, wanted = stream.session.name, self._sources(stream)
        fit = self._requested.get(name)
        if fit is not None and not fit.over and wanted.get(fit.of) is fit.source:
            return
        fitted = [source for source in self._fitted.get(name, ()) if _among(source, wanted.values())]
        self.drop(name)
        self._fitted[name] = fitted
        for of, source in wanted.items():
            if not _among(source, fitted):
                return self._request(RequestedFit(of, source, stream))

    def _request(self, fit: RequestedFit) -> None:
        name, loop = fit.stream.session.name, asyncio.get_running_loop()
        self._requested[name] = fit
        self.fitter.request(Fit(name, self._model(), fit.source, partial(self._from_thread, loop, fit)))

    def drop(self, session: str) -> None:
        """The session has left, or has fits switched off."""
        self._fitted.pop(session, None)
        fit = self._requested.pop(session, None)
        if fit is None or fit.over:
            return
        self.fitter.drop(session)
        _send(fit, FitNews("stopped"))

    def _sources(self, stream: Stream) -> dict[str, Pixels]:
        """The pictures to fit, by the session's attributes."""
        session, found = stream.session, {}
        if session.wants_fit and stream.attached:
            for of in ("picture", "picture_b"):
                picture = getattr(session, of)
                if isinstance(picture, PictureStyle) and picture.source is not None and self._fits(stream, picture):
                    found[of] = picture.source
        return found

    def _from_thread(self, loop: asyncio.AbstractEventLoop, fit: RequestedFit, news: FitNews) -> None:
        with contextlib.suppress(RuntimeError):  # the server stops
            loop.call_soon_threadsafe(self._on_news, fit, news)

    def _on_news(self, fit: RequestedFit, news: FitNews) -> None:
        session = fit.stream.session
        if self._requested.get(session.name) is not fit:
            return  # it was dropped while the news came
        present = getattr(session, fit.of)
        if news.style is not None and news.gain > fit.best and isinstance(present, PictureStyle):
            fit.best = news.gain
            setattr(session, fit.of, replace(news.style, source=fit.source, name=present.name))
            fit.stream.picture_changed()
        if news.state == "fitting":
            if news.style is None and news.done < fit.sent + STEP:
                return
            fit.sent = news.done
        _send(fit, news)
        if news.state in ("done", "failed"):
            fit.over = True
            self._fitted.setdefault(session.name, []).append(fit.source)
            self.update(fit.stream)


def _among(picture: Pixels, others: Iterable[Pixels]) -> bool:
    return any(picture is other for other in others)


def _send(fit: RequestedFit, news: FitNews) -> None:
    of = None if fit.of == "picture" else fit.of
    fit.stream.outbound.mailbox.post_or_drop(_text(news, of))


def _text(news: FitNews, of: str | None) -> str:
    if news.state == "waiting":
        return pack_text("fit", state="waiting", place=news.place, of=of)
    if news.state == "stopped":
        return pack_text("fit", state="stopped", of=of)
    numbers = {"done": round(news.done, 3), "gain": round(news.gain, 3), "share": round(news.share, 2)}
    return pack_text("fit", state=news.state, **numbers, message=news.reason, of=of)
