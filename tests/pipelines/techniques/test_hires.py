"""What is done to a UNet at other sizes than its native one, and where it is refused."""

import math
from typing import Any

import pytest

from pipelines.networks.hires import Hires, temperature
from pipelines.techniques import first_levels, hires
from pipelines.techniques.hires import chosen
from pipelines.values.types import SpecError, StreamSpec

SD15: dict[str, Any] = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
SDXL: dict[str, Any] = {
    "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
}
POCKET: dict[str, Any] = {
    "down_block_types": ("DownBlock2D",) * 3 + ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",) + ("UpBlock2D",) * 3,
}


def of(mode: str, width: int, height: int, config: dict[str, Any] = SD15, controlled: bool = False) -> Hires | None:
    return chosen(StreamSpec(width=width, height=height, hires=mode), config, [512], controlled)


def test_what_is_done_follows_the_size_and_the_shape() -> None:
    assert of("off", 512, 512, POCKET) is None
    assert of("attention", 1024, 768) == Hires(0, (96, 128), 64 * 64, windows=True, halves=False)
    assert of("attention", 256, 256) == Hires(0, (32, 32), 64 * 64, windows=False, halves=False)
    assert of("full", 1024, 1024, SDXL) == Hires(1, (128, 128), 64 * 64, windows=True, halves=True)


@pytest.mark.parametrize(
    ("mode", "size", "config", "controlled", "message"),
    [
        ("attention", (1024, 1024), POCKET, False, "no self-attention in its two outermost blocks"),
        ("full", (1024, 1024), {}, False, "no self-attention in its two outermost blocks"),
        ("attention", (512, 512), SD15, False, "changes nothing at the model's native size, 512 x 512"),
        ("full", (256, 256), SD15, False, "full is for sizes above the model's native one, 512 x 512"),
        ("full", (1024, 1024), SD15, True, "ControlNet"),
        ("full", (1024, 704), SD15, False, "a height that is a multiple of 128, not 704"),
        ("full", (1024, 1024), {**SD15, "downsample_padding": 0}, False, "padding of 1"),
        ("full", (1024, 1024), {key: value[-1:] for key, value in SDXL.items()} | {"down_block_types": ("CrossAttnDownBlock2D",),
         "up_block_types": ("CrossAttnUpBlock2D",)}, False, "halves the picture"),
    ],
)  # fmt: skip
def test_where_it_does_not_apply_the_message_names_why(
    mode: str, size: tuple[int, int], config: dict[str, Any], controlled: bool, message: str
) -> None:
    with pytest.raises(SpecError, match=message) as error:
        of(mode, *size, config, controlled)
    assert error.value.field == "hires"


def test_the_spec_knows_its_values() -> None:
    with pytest.raises(SpecError, match="hires: 'on' is not one of off, attention, full"):
        StreamSpec(hires="on")


def test_the_temperature_is_the_root_of_the_ratio_of_logarithms() -> None:
    assert temperature(64 * 64, 64 * 64) == 1.0
    assert temperature(128 * 128, 64 * 64) == pytest.approx(math.sqrt(math.log(16384, 4096)))
    assert temperature(32 * 32, 64 * 64) < 1.0
    assert temperature(1, 64) == temperature(64, 1) == 1.0


def test_neighbouring_steps_of_few_step_streams_shift_differently() -> None:
    for timesteps in ((999, 749, 499, 249), (499, 374, 249, 124), (999, 499)):
        found = [hires.shift(t, 1000) for t in timesteps]
        assert len(set(found)) == len(found) and set(found) <= {0, 1, 2, 3}
    assert {hires.shift(t, 1000) for t in range(1000)} == {0, 1, 2, 3}


def test_the_first_share_of_the_steps_is_rounded_down() -> None:
    assert [first_levels.count(0.5, steps) for steps in (1, 2, 3, 4, 8)] == [0, 1, 1, 2, 4]
    assert first_levels.count(0.3, 10) == 3 and first_levels.count(1.0, 1) == 1 and first_levels.count(0.0, 8) == 0
    assert [first_levels.inside(level, 4, 0.5) for level in range(4)] == [True, True, False, False]


def test_a_share_of_less_than_one_step_is_reported() -> None:
    assert first_levels.waits(0.5, 1) == "it waits: this share of 1 step is less than one step"
    assert first_levels.waits(0.5, 2) is None and first_levels.waits(0.0, 1) is None
