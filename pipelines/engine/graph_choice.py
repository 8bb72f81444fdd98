"""Which graphs a stream with given settings uses, and whether they are ready."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipelines.engine.rows import HALVED, SMALL, First
from pipelines.graphs.graphs import Graphs
from pipelines.graphs.keys import GraphKey, with_control
from pipelines.networks import window
from pipelines.techniques import feature_cache, first_levels, guidance, partial
from pipelines.values.settings import Settings
from pipelines.values.style_names import StyleNames
from pipelines.values.types import Frame

UNET = ("keeping", "window")
"""Of the parts of partial frames, those that are passes of the UNet."""


class GraphChoice:
    """Of one pipeline. chunks: how many chunks of the text encoder's context the prompts of settings take. prompts: rows that a
    frame takes for its prompt, more than one for a composed one."""

    def __init__(
        self,
        graphs: Graphs,
        chunks: Callable[[Settings], int] = lambda _: 1,
        prompts: Callable[[Settings, StyleNames], int] = lambda *_: 1,
    ) -> None:
        self._graphs, self._chunks, self._prompts = graphs, chunks, prompts

    def keys(
        self,
        settings: Settings,
        sessions: int,
        pictured: bool,
        names: StyleNames = StyleNames(),  # noqa: B008 - immutable
    ) -> tuple[GraphKey, ...]:
        """The graphs that so many sessions with these settings use best. pictured: there is a picture prompt. names: styles that
        prompts may name."""
        levels = settings.steps if settings.stream_batch.enabled else 1
        rows = sessions * (guidance.rows(settings, levels) + levels * (self._prompts(settings, names) - 1))
        layout = self._graphs.backend.layout
        plain = [(feature_cache.PLAIN, size) for size in layout.wanted(rows)]
        # With the cache the rows of one call fall into two groups, of any size.
        caching = feature_cache.passes(settings.cache) if self._caches(settings) else ()
        grouped = [(kind, size) for kind in caching for size in layout.buckets if size <= rows]
        lengths = {1, self._chunks(settings)}  # one chunk, too: it counts alone until the graphs for all are ready
        own = self._first(settings)
        first = [] if own is None else [(own.kind, size) for size in layout.wanted(rows)]
        passes = [GraphKey(part, size, branch, n) for (part, branch), size in (*plain, *first, *grouped) for n in sorted(lengths)]
        partials = self._partial(settings, sessions, rows, self.paints(settings, pictured, names))
        return (*self._around(settings, sessions, pictured, names), *self._controlled(passes, settings), *partials)

    def cache_ready(self, settings: Settings, chunks: int = 1) -> bool:
        """Whether the passes of the feature cache can run with a text of so many chunks, for one row and so for any number."""
        if not self._caches(settings):
            return False
        passes = [GraphKey(part, 1, branch, chunks) for part, branch in feature_cache.passes(settings.cache)]
        return all(map(self._graphs.ready, self._controlled(passes, settings)))

    def first(self, settings: Settings, chunks: int = 1) -> First | None:
        """The pass of the first levels; None where there is none, or while it cannot run. chunks: as above."""
        own = self._first(settings)
        if own is None:
            return None
        needed = [GraphKey(own.kind[0], 1, None, chunks), *([GraphKey("small-modulate", 1)] if own.kind == SMALL else [])]
        return own if all(map(self._graphs.ready, needed)) else None

    def _first(self, settings: Settings) -> First | None:
        """The same, whether or not it can run yet."""
        graphs, own = self._graphs, None
        if graphs.halves:
            own = First(HALVED, settings.hires.share)
        elif graphs.stitched:
            own = First(SMALL, settings.stitch.fraction)
        return own if own is not None and first_levels.count(own.share, settings.steps) else None

    def controls(self, frame: Frame, settings: Settings) -> bool:
        """Whether a ControlNet takes part in a frame: there is one, its scale is not 0, and its graphs are ready."""
        if frame.pixels is None or not settings.control.scale or not self._graphs.parts.has_control:
            return False
        return all(map(self._graphs.ready, with_control(GraphKey("full", 1), self._graphs.parts.inside)))

    def paints(self, settings: Settings, pictured: bool, names: StyleNames = StyleNames()) -> bool:  # noqa: B008 - immutable
        """Whether these settings ask for paint. pictured, names: as above."""
        if settings.style.amount == 0.0:
            return False
        parts = self._graphs.parts
        by_picture = pictured and parts.reads_styles and settings.picture.scale > 0.0
        prompts = (settings.prompt, settings.prompt_b)
        by_name = len(names) > 0 and any(parts.read_names(words, names)[1] for words in prompts)
        return by_picture or by_name or any(parts.read_prompt(words)[1] for words in prompts)

    def whole_frames(self, settings: Settings, painted: bool = False) -> str | None:
        """Why every frame is computed as a whole although partial frames are on, for people; None where windows can be. painted:
        the settings ask for paint."""
        parts, spec = self._graphs.parts, self._graphs.spec
        gap = window.gap(parts.unet_config, parts.vae_config)
        for holds, why in (
            (gap is not None, gap or ""),
            (self._graphs.stitched and settings.stitch.fraction > 0.0, "a second UNet takes the first levels"),
            (parts.beside is not None, "its UNet takes the whole picture beside the latent"),
            (spec.dtype == "int8", "the graphs of windows are not calibrated for int8"),
            (partial.place(partial.NOTHING, spec.height, spec.width) is None, "the picture is too small for a window"),
            (parts.has_control and settings.control.scale > 0.0, "a ControlNet looks at the whole picture"),
            (painted and not parts.paints_windows, "the painter keeps no statistics"),
        ):
            if holds:
                return why
        return partial.obstacle(settings)

    def waiting(self, settings: Settings, names: StyleNames = StyleNames()) -> dict[str, str | None]:  # noqa: B008 - immutable
        """By setting, why it does nothing with this pipeline, for people; None where it acts."""
        found: dict[str, str | None] = {}
        if settings.partial.enabled:
            whole = self.whole_frames(settings, self.paints(settings, False, names))
            found["partial.enabled"] = None if whole is None else f"every frame is computed as a whole: {whole}"
        if self._graphs.halves:
            found["hires.share"] = first_levels.waits(settings.hires.share, settings.steps)
        if self._graphs.stitched:
            found["stitch.fraction"] = first_levels.waits(settings.stitch.fraction, settings.steps)
        return found

    def partial_parts(self, painted: bool) -> tuple[str, ...]:
        """The graphs of partial frames beside the plain ones; those of the UNet first."""
        return "keeping", "window", "encode-window", *(("paint-keeping", "paint-window") if painted else ("decode-window",))

    def partial_ready(self, painted: bool, chunks: int = 1) -> bool:
        """Whether these graphs can run, for one row and so for any number."""
        parts = self.partial_parts(painted)
        return all(self._graphs.ready(GraphKey(part, 1, None, chunks if part in UNET else 1)) for part in parts)

    def _partial(self, settings: Settings, sessions: int, rows: int, painted: bool) -> list[GraphKey]:
        """The graphs of partial frames."""
        if not settings.partial.enabled or self.whole_frames(settings, painted) is not None:
            return []
        layout, lengths = self._graphs.backend.layout, sorted({1, self._chunks(settings)})
        found = []
        for part in self.partial_parts(painted):
            wanted = layout.wanted(rows if part in UNET else sessions)
            sizes = (1,) if part.endswith("keeping") else wanted  # rare, and each holds all weights
            found += [GraphKey(part, size, None, n) for size in sizes for n in (lengths if part in UNET else [1])]
        return sorted(found, key=lambda key: key.rows)  # the graphs of one row first: with all of them windows can be taken

    def _caches(self, settings: Settings) -> bool:
        """Whether the feature cache is on, and can gain something with this model."""
        return settings.cache.enabled and feature_cache.gains(settings.cache, self._graphs.parts.schedule.prediction)

    def _around(self, settings: Settings, sessions: int, pictured: bool, names: StyleNames) -> tuple[GraphKey, ...]:
        """The graphs around the UNet's."""
        sizes = self._graphs.backend.layout.wanted(sessions)
        parts = ["encode", "decode", *(["paint"] if self.paints(settings, pictured, names) else [])]
        parts += ["encode-masked"] if self._graphs.parts.beside == "mask" else []
        own = self._first(settings)
        small = [GraphKey("small-modulate", 1)] if own is not None and own.kind == SMALL else []
        return (*(GraphKey(part, size) for part in parts for size in sizes), GraphKey("modulate", 1), *small)

    def _controlled(self, passes: Sequence[GraphKey], settings: Settings) -> list[GraphKey]:
        """These passes. Where a ControlNet takes part, those that take its residuals, and its own, as well."""
        if not (self._graphs.parts.has_control and settings.control.scale):
            return list(passes)
        needed = {key: with_control(key, self._graphs.parts.inside) for key in passes}
        plain = [key for key in passes if key.rows == 1 or not needed[key]]
        return list(dict.fromkeys([*plain, *(other for key in passes for other in needed[key])]))
