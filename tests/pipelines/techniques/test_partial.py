"""Partial frames: what counts as changed, where the window lies, when it may be taken. Against plain loops, on random changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.techniques import partial
from pipelines.techniques.partial import ALIGN, BLOCK, CELL, MARGIN, Kept, Plan, Window
from pipelines.values.settings import PartialSettings, Settings
from pipelines.values.types import Pixels

SETTINGS = PartialSettings(enabled=True)
sides = st.integers(2, 16).map(lambda units: units * ALIGN)


def picture(seed: int, height: int, width: int) -> Pixels:
    return np.random.default_rng(seed).integers(60, 190, (height, width, 3), np.uint8)


@given(st.data(), sides, sides)
def test_every_changed_block_is_recomputed_in_full(data: st.DataObject, height: int, width: int) -> None:
    mask = np.zeros((height // BLOCK, width // BLOCK), np.bool_)
    for _ in range(data.draw(st.integers(1, 4))):
        top, left = (data.draw(st.integers(0, count - 1)) for count in mask.shape)
        mask[top : top + data.draw(st.integers(1, 8)), left : left + data.draw(st.integers(1, 8))] = True
    window = partial.place(mask, height, width)
    rows, columns = np.nonzero(mask)
    if window is None:
        tall, wide = partial.side(height), partial.side(width)
        assert (tall >= height and wide >= width) or not _fits(rows, height, tall) or not _fits(columns, width, wide)
        return
    inside = np.zeros((height, width), np.bool_)
    inside[window.inner(height, width)] = True
    assert np.repeat(np.repeat(mask, BLOCK, 0), BLOCK, 1)[~inside].sum() == 0
    assert (window.height, window.width) == (partial.side(height), partial.side(width))
    assert window.top % ALIGN == window.left % ALIGN == 0
    assert 0 <= window.top <= height - window.height and 0 <= window.left <= width - window.width


def _fits(blocks: np.ndarray, whole: int, length: int) -> bool:
    """Whether any window along one side holds these blocks and their margin, by trying all."""
    needed = {at for block in blocks for at in range(block * BLOCK - MARGIN, (block + 1) * BLOCK + MARGIN) if 0 <= at < whole}
    return any(needed <= set(range(begin, begin + length)) for begin in range(0, whole - length + 1, ALIGN))


@given(st.integers(0, 2**31), st.floats(0.005, 0.5))
def test_blocks_count_as_changed_by_the_largest_change_of_a_cell(seed: int, threshold: float) -> None:
    dice = np.random.default_rng(seed)
    now, seen = (dice.integers(0, 256, (16, 24, 3), np.uint8) for _ in range(2))
    found = partial.changed(now, seen, threshold)
    ratio = BLOCK // CELL
    for row in range(found.shape[0]):
        for column in range(found.shape[1]):
            part = slice(row * ratio, (row + 1) * ratio), slice(column * ratio, (column + 1) * ratio)
            largest = max(abs(int(a) - int(b)) for a, b in zip(now[part].ravel(), seen[part].ravel(), strict=True))
            assert found[row, column] == (largest > threshold * 255)


def test_the_noise_of_a_sensor_is_no_change_and_a_moved_edge_is_one() -> None:
    still = picture(0, 256, 256)
    dice = np.random.default_rng(1)

    def taken(scene: Pixels) -> partial.Small:
        noisy = scene + dice.standard_normal(scene.shape) * 2.0
        return partial.small(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))

    assert not any(partial.changed(taken(still), taken(still), SETTINGS.threshold).any() for _ in range(20))
    moved = still.copy()
    moved[100:108, 40:43] = 255
    found = partial.changed(taken(moved), taken(still), SETTINGS.threshold)
    assert {(int(row), int(column)) for row, column in np.argwhere(found)} == {(6, 2)}


def kept(small: partial.Small, **changes: object) -> Kept:
    import torch

    found = Kept("key", small, statistics={(0, False): torch.zeros(1)})
    return replace(found, **changes)  # type: ignore[arg-type]


def spotted(small: partial.Small, spot: tuple[int, int], size: int = 4) -> partial.Small:
    other = small.copy()
    other[spot[0] : spot[0] + size, spot[1] : spot[1] + size] ^= 128
    return other


def test_a_window_is_taken_only_with_statistics_of_the_same_key_that_are_young_enough() -> None:
    before = partial.small(picture(2, 320, 320))
    now = spotted(before, (40, 40))
    assert partial.plan(kept(before), "key", now, SETTINGS).window is not None
    assert partial.plan(kept(before, age=SETTINGS.refresh - 2), "key", now, SETTINGS).window is not None
    for memory in (None, kept(before, key="other"), kept(before, statistics={}), kept(before, age=SETTINGS.refresh - 1)):
        found = partial.plan(memory, "key", now, SETTINGS)
        assert found.window is None and found.keeps


def test_a_frame_that_moves_everywhere_is_whole_and_keeps_nothing() -> None:
    found = partial.plan(kept(partial.small(picture(3, 320, 320))), "key", partial.small(picture(4, 320, 320)), SETTINGS)
    assert found.window is None and not found.keeps


def test_without_a_change_the_window_stays_where_it_was() -> None:
    before = partial.small(picture(5, 320, 320))
    last = Window(64, 0, 256, 256)
    assert partial.plan(kept(before, window=last), "key", before, SETTINGS).window == last
    middle = partial.plan(kept(before), "key", before, SETTINGS).window
    assert middle is not None and (middle.height, middle.width) == (256, 256)


def test_slow_changes_add_up_until_they_count() -> None:
    """The kept picture shows the input of long ago where nothing was recomputed since, so that is what counts."""
    seen = np.full((80, 80, 3), 100, np.uint8)
    memory, windows = kept(seen), 0
    for step in range(1, 12):
        now = seen.copy()
        now[70:74, 70:74] += step  # one of 255 a frame, below the threshold of 7
        made = partial.plan(memory, "key", now, replace(SETTINGS, refresh=600))
        assert made.window is not None
        if partial.changed(now, memory.seen, SETTINGS.threshold).any():
            windows += 1
        memory = replace(memory, seen=partial.seen_after(made), window=made.window)
        shown = memory.seen[70:74, 70:74].astype(int)
        assert np.abs(shown - now[70:74, 70:74]).max() <= SETTINGS.threshold * 255
    assert windows == 1


def test_what_a_picture_shows_afterwards_is_the_new_input_in_the_window_and_the_old_one_elsewhere() -> None:
    old, new = (partial.small(picture(seed, 320, 320)) for seed in (6, 7))
    window = Window(64, 0, 256, 256)
    found = partial.seen_after(Plan("key", new, window, kept(old)))
    inside = np.zeros(old.shape[:2], np.bool_)
    inside[(64 + MARGIN) // CELL : 320 // CELL, 0 : (256 - MARGIN) // CELL] = True
    assert np.array_equal(found[inside], new[inside]) and np.array_equal(found[~inside], old[~inside])
    assert np.array_equal(partial.seen_after(Plan("key", new)), new)


@pytest.mark.parametrize(
    "patch",
    [
        {"steps": 2},
        {"cache.enabled": True, "cache.reuse": "steps"},
        {"guidance_mode": "adaptive"},
        {"guidance_mode": "linear"},
        {"guidance_mode": "self", "guidance_blur": 2.0},
        {"refine.enabled": True},
        {"prompt": "left: ink | right: snow"},
        {"prompt": "left: watercolour | right: oil painting"},
        {"noise.mode": "walk"},
        {"noise.motion": 0.5},
        {"noise.warm_start": 0.2},
        {"strength_map.mode": "motion"},
        {"omega_map.mode": "motion"},
    ],
)
def test_what_reaches_beyond_the_change_is_named(patch: dict[str, object]) -> None:
    assert partial.obstacle(Settings().patched(patch)) is not None


@pytest.mark.parametrize(
    "patch",
    [
        {},
        {"steps": 4, "stream_batch.enabled": False},
        {"guidance_mode": "self"},
        {"guidance_mode": "one-time"},
        {"guidance_mode": "full"},
        {"strength_map.mode": "mask"},
        {"gate.enabled": True},
        {"cache.enabled": True},
        {"omega": 0.8},
    ],
)
def test_what_goes_with_windows_is_no_obstacle(patch: dict[str, object]) -> None:
    assert partial.obstacle(Settings().patched(patch)) is None
