"""Which graphs settings use, and when their techniques may begin."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.engine.graph_choice import GraphChoice
from pipelines.graphs.keys import GraphKey
from pipelines.graphs.layout import ON_GPU, Layout
from pipelines.techniques.styles import Style
from pipelines.values.settings import Settings
from pipelines.values.types import Frame

PIXELS = np.zeros((4, 4, 3), np.uint8)
AROUND = {GraphKey("encode", 1), GraphKey("decode", 1), GraphKey("modulate", 1)}
CACHE = Settings().patched({"cache.enabled": True, "cache.branch": 1, "cache.cascade": True})
CONTROL = Settings().patched({"control.scale": 0.5})


def choice(*ready: GraphKey, control: bool = False, styled: bool = False, layout: Layout = Layout((1, 2, 4))) -> GraphChoice:  # noqa: B008 - frozen
    def read(words: str) -> tuple[str, Style | None]:
        return words, Style(np.zeros(1)) if "mosaic" in words else None  # type: ignore[arg-type]

    parts = SimpleNamespace(
        schedule=SimpleNamespace(prediction="epsilon"),
        has_control=control,
        beside=None,
        inside=None,
        reads_styles=styled,
        read_prompt=read,
    )
    backend = SimpleNamespace(layout=layout)
    return GraphChoice(SimpleNamespace(parts=parts, backend=backend, ready=ready.__contains__, halves=False, stitched=False))  # type: ignore[arg-type]


def test_a_plain_stream_of_one_session_uses_single_rows() -> None:
    assert set(choice().keys(Settings(), 1, False)) == AROUND | {GraphKey("full", 1)}


def test_more_rows_use_larger_graphs_and_single_rows_stay() -> None:
    steps = set(choice().keys(Settings().patched({"steps": 4}), 1, False))
    assert {key for key in steps if key.part == "full"} == {GraphKey("full", 1), GraphKey("full", 4)}
    guided = Settings().patched({"steps": 2, "guidance": 1.5, "guidance_mode": "full"})
    assert GraphKey("full", 4) in choice().keys(guided, 1, False)
    sequential = guided.patched({"stream_batch.enabled": False})
    keys = choice().keys(sequential, 1, False)
    assert GraphKey("full", 2) in keys and GraphKey("full", 4) not in keys


def test_the_cache_uses_its_passes_at_every_size_that_a_group_may_have() -> None:
    keys = choice().keys(CACHE, 2, False)
    for part, branch in (("full", 1), ("relay", 1), ("shallow", 0)):
        assert {key.rows for key in keys if (key.part, key.branch) == (part, branch)} == {1, 2}


def test_pictures_of_several_sessions_share_a_graph() -> None:
    keys = choice(layout=ON_GPU).keys(Settings(), 16, False)
    assert {GraphKey("encode", 16), GraphKey("decode", 16)} <= set(keys)


def test_paint_is_needed_for_either_prompt_and_its_amount() -> None:
    painted = Settings().patched({"prompt_b": "mosaic"})
    assert choice().paints(painted, False) and not choice().paints(painted.patched({"style.amount": 0.0}), False)
    assert GraphKey("paint", 1) in choice().keys(painted, 1, False)
    assert GraphKey("paint", 1) not in choice().keys(Settings(), 1, False)


def test_a_picture_prompt_is_paint_where_the_painter_reads_styles() -> None:
    assert choice(styled=True).paints(Settings(), True)
    assert not choice(styled=True).paints(Settings(), False) and not choice().paints(Settings(), True)
    assert not choice(styled=True).paints(Settings().patched({"picture.scale": 0.0}), True)


def test_the_cache_begins_when_the_graphs_of_all_its_passes_are_ready() -> None:
    needed = [GraphKey("full", 1, 1), GraphKey("relay", 1, 1), GraphKey("shallow", 1, 0)]
    assert choice(*needed).cache_ready(CACHE)
    for missing in needed:
        assert not choice(*(key for key in needed if key != missing)).cache_ready(CACHE)
    assert not choice(*needed).cache_ready(Settings()), "it is switched off"


def test_a_controlnet_takes_part_where_there_is_one_at_a_scale_with_its_graphs() -> None:
    frame, needed = Frame(0, 0.0, PIXELS), [GraphKey("controlled-full", 1), GraphKey("control", 1)]
    assert choice(*needed, control=True).controls(frame, CONTROL)
    assert not choice(*needed).controls(frame, CONTROL)
    assert not choice(*needed, control=True).controls(frame, Settings().patched({"control.scale": 0.0}))
    assert not choice(needed[0], control=True).controls(frame, CONTROL)
    assert not choice(*needed, control=True).controls(Frame(0, 0.0, None), CONTROL)


def test_with_a_controlnet_the_passes_that_take_its_residuals_are_wanted_and_single_plain_ones() -> None:
    keys = set(choice(control=True).keys(CONTROL, 4, False))
    assert {GraphKey("controlled-full", 4), GraphKey("control", 4), GraphKey("full", 1)} <= keys
    assert GraphKey("full", 4) not in keys


@pytest.mark.parametrize("sessions", [1, 3])
def test_no_graph_is_named_twice(sessions: int) -> None:
    for settings in (Settings(), CACHE, CONTROL, CACHE.patched({"control.scale": 1.0})):
        keys = choice(control=True).keys(settings, sessions, False)
        assert len(set(keys)) == len(keys)
