"""Writes what a UNet pass made into the session that it belongs to. rows.py reads it for the next pass."""

from __future__ import annotations

from torch import Tensor

from pipelines.engine.levels import Levels
from pipelines.engine.rows import KEEPING, WINDOW, Row
from pipelines.engine.state import FeatureEntry, StreamState
from pipelines.techniques import feature_cache
from pipelines.techniques.feature_cache import CacheState
from pipelines.techniques.stream_batch import KeptFeatures


def remember(state: StreamState, row: Row, features: tuple[Tensor, ...], levels: Levels) -> None:
    """Keep what a row's pass made, before its frame moves on. features: those that the pass gave, without the batch dimension."""
    frame, thumb = row.frame, row.frame.thumb
    frame.reused = frame.reused or bool(row.features)
    if row.kind in (KEEPING, WINDOW):  # the cached features are of an older frame
        state.cache.pop(row.slot, None)
        frame.statistics = {**frame.statistics, row.slot: features[0]} if row.kind == KEEPING else {}
    elif row.features and row.kept is None:  # a short pass with features of an earlier frame ages its entry
        entry = state.cache[row.slot]
        relayed = features if row.kind[0] == "relay" else entry.relayed
        state.cache[row.slot] = FeatureEntry(feature_cache.aged(entry.state), entry.features, relayed)
    elif row.key is not None and row.key.reuse == "frames":
        state.cache[row.slot] = FeatureEntry(CacheState(row.key, thumb), features)
    elif row.key is not None:
        kept = KeptFeatures(row.key, frame.level, frame.x, *levels.model_coefficients(frame), features)
        frame.kept = {**frame.kept, row.place: kept}
