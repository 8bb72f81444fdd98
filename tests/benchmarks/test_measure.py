"""The benchmarks' bookkeeping against hand-made numbers."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure import Block, Closeness, Stretch, percentile, pooled_psnr, ratios, rounded_median
from pipelines import Pixels, Settings, StreamPipeline, StreamSpec, load

SIZE = 128


@pytest.fixture(scope="module")
def pipeline(mini_model: Path) -> StreamPipeline:
    return load(StreamSpec(str(mini_model), SIZE, SIZE, "eager", "float32"))


def flat(value: int, size: int = 16) -> Pixels:
    return np.full((size, size, 3), value, np.uint8)


def moving(count: int) -> list[Pixels]:
    """Every picture differs strongly from the one before."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(count)]


def test_percentile_is_linear_between_neighbours() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile(list(map(float, range(101))), 0.05) == pytest.approx(5.0)
    assert percentile([0.0, 1.0], 0.05) == pytest.approx(0.05)
    with pytest.raises(ValueError):
        percentile([], 0.5)


def test_ratios_go_block_by_block_and_leave_out_empty_ones() -> None:
    assert ratios([2.0, 9.0, 0.0, 5.0], [1.0, 3.0, 4.0, 0.0]) == [2.0, 3.0]
    with pytest.raises(ValueError):
        ratios([1.0], [1.0, 2.0])
    assert rounded_median([1.0, 5.0, 2.0]) == 2.0 and rounded_median([]) is None


def test_pooled_psnr_is_that_of_the_mean_error() -> None:
    errors = (4.0, 16.0)  # mean squared errors of two pictures
    each = [10 * math.log10(255**2 / error) for error in errors]
    assert pooled_psnr(each) == pytest.approx(10 * math.log10(255**2 / 10.0))
    assert pooled_psnr([each[0], math.inf]) == pytest.approx(10 * math.log10(255**2 / 2.0))  # an identical picture has none
    assert pooled_psnr([math.inf]) is None and pooled_psnr([]) is None


def test_a_block_counts_apart() -> None:
    block = Block(wall_s=2.0, cpu_s=4.0, verdicts=Counter(generated=6, cached=4, skipped=10, warming=3))
    assert (block.made, block.shown) == (10, 20)
    assert (block.model_fps, block.shown_per_cpu_s) == (5.0, 5.0)
    block.stages["denoise"] = [30.0, 6.0, 6.0]
    assert block.denoise_ms == 14.0  # the mean: a median would hide the full pass
    assert Block().model_fps == Block().shown_per_cpu_s == Block().denoise_ms == 0.0


def test_closeness_looks_at_touched_frames_only() -> None:
    reference = Block(pictures={0: flat(10), 1: flat(20), 2: flat(30)})
    block = Block(pictures={0: flat(200), 1: flat(20), 2: flat(33)})
    closeness = Closeness()
    closeness.add(block, reference, {1, 2, 7})  # 7 never came out
    found = closeness.summary()
    assert found["touched"] == 2
    assert found["psnr_db"] == pytest.approx(10 * math.log10(255**2 / (9 / 2)), abs=0.01)
    assert closeness.ssim[0] == 1.0 > closeness.ssim[1]
    assert found["ssim_p05"] == pytest.approx(closeness.ssim[1] + 0.05 * (1.0 - closeness.ssim[1]), abs=1e-4)


def test_flicker_needs_the_picture_before() -> None:
    block = Block(pictures={0: flat(10), 1: flat(14), 3: flat(90)})
    closeness = Closeness()
    closeness.add_flicker(block, [flat(50)] * 4, range(4))
    assert closeness.flicker == [4.0]
    assert Closeness().summary() == {"touched": 0, "ssim_mean": None, "ssim_p05": None, "psnr_db": None, "flicker": None}


def test_a_stretch_counts_after_its_lead_and_keeps_every_picture(pipeline: StreamPipeline) -> None:
    settings = Settings().patched({"steps": 4})
    block = Stretch(pipeline, settings, moving(9), lead=4).run()
    assert block.verdicts == Counter(generated=5)  # the first four filled the stream; those in flight at the end do not count
    assert sorted(block.pictures) == list(range(9))
    assert len(block.stages["denoise"]) == 5 and block.wall_s > 0.0 and block.cpu_s > 0.0


def test_a_stretch_with_a_cache_counts_its_reuse_frames(pipeline: StreamPipeline) -> None:
    settings = Settings().patched({"cache.enabled": True, "cache.interval": 3})
    pipeline.prepare(settings)
    block = Stretch(pipeline, settings, [moving(1)[0]] * 8, lead=2).run()
    assert block.cached == {1, 2, 4, 5, 7}
    assert block.verdicts == Counter(generated=2, cached=4)


def test_a_skipped_frame_shows_the_picture_before_it(pipeline: StreamPipeline) -> None:
    first, second = moving(2)
    settings = Settings().patched({"gate.enabled": True, "gate.max_skip": 2})
    block = Stretch(pipeline, settings, [first, first, first, first, second, second], lead=1).run()
    assert block.skipped == {1, 2, 5}
    assert block.verdicts == Counter(generated=2, skipped=3) and block.shown == 5
    assert np.array_equal(block.pictures[2], block.pictures[0])
    assert np.array_equal(block.pictures[5], block.pictures[4])
    assert not np.array_equal(block.pictures[4], block.pictures[0])
    assert block.skipped_tile == 0.0


def test_adaptive_guidance_notes_where_it_dropped_the_negative_row(pipeline: StreamPipeline) -> None:
    patch = {"guidance_mode": "adaptive", "guidance": 1.5, "guidance_alike": 0.5, "stream_batch.enabled": False}
    block = Stretch(pipeline, Settings().patched(patch), [moving(1)[0]] * 10, lead=0).run()
    assert block.dropped_rows == {*range(1, 9)}  # computed at 0, and again eight frames later
