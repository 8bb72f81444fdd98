"""A picture as a style of the painter: predicted from pixels or given as numbers, mixed with words, replaced without a jump."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import clips
from pipelines import (
    Entry,
    Frame,
    ModelError,
    PictureStyle,
    Pixels,
    Settings,
    StreamPipeline,
    StreamSpec,
    StreamState,
    StyleNames,
    load,
)
from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.checkpoints.naming import describe
from pipelines.graphs.keys import GraphKey
from pipelines.networks.style_reader import StyleReader
from pipelines.techniques import style_easing
from tests.pipelines.engine.test_painted import LOOKS, add_painter, distance

SIZE = 128
PLAIN = Settings().patched({"prompt": "photo"})


def add_reader(folder: Path, painter: str | None = None) -> None:
    """A reader with random weights and the painter's three styles."""
    parts = ModelParts(describe(str(folder)))
    torch.manual_seed(5)
    numbers = parts.plain_styles
    made = StyleReader(painter or parts.painter_fingerprint, len(numbers), numbers.shape[1], 1.0, ((3, 4), (4, 6)))
    made.known_numbers.copy_(numbers)
    made.known_keys.normal_()
    made.save_pretrained(folder / "style_reader")


@pytest.fixture(scope="module")
def folder(mini_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("reading") / "model"
    shutil.copytree(mini_model, made)
    add_painter(made, LOOKS)
    add_reader(made)
    return made


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> StreamPipeline:
    made = load(StreamSpec(str(folder), SIZE, SIZE, "eager", "float32"))
    made.prepare(PLAIN, 2, pictured=True)
    return made


def frame(index: int) -> Frame:
    return Frame(index, index / 10, clips.clip("handheld", SIZE, SIZE)[0])


def shown(pipeline: StreamPipeline, state: StreamState, index: int, settings: Settings = PLAIN) -> Pixels:
    (output,) = pipeline.step([Entry(state, frame(index), settings)])
    assert output.pixels is not None
    return output.pixels.numpy()


def picture(tint: tuple[int, int, int]) -> Pixels:
    """Stripes in one colour and black."""
    made = np.zeros((90, 70, 3), np.uint8)
    made[:, ::3] = tint
    return made


def with_picture(pipeline: StreamPipeline, given: Pixels | PictureStyle | None, settings: Settings = PLAIN) -> Pixels:
    state = pipeline.open(settings)
    state.set_picture(given)
    return shown(pipeline, state, 0, settings)


def test_a_picture_s_colours_are_painted_from_the_first_frame_on(pipeline: StreamPipeline) -> None:
    red, blue = (with_picture(pipeline, picture(tint)) for tint in ((255, 20, 20), (20, 20, 255)))
    assert red[..., 0].mean() > red[..., 2].mean() + 30
    assert blue[..., 2].mean() > blue[..., 0].mean() + 30


def test_predicted_numbers_are_painted_as_the_picture_itself(pipeline: StreamPipeline) -> None:
    style = pipeline.pictures.style(picture((200, 160, 20)))
    assert style is not None and style.numbers.dtype == np.float32 and style.fitted == 0
    assert np.array_equal(with_picture(pipeline, style), with_picture(pipeline, picture((200, 160, 20))))


@pytest.mark.parametrize("scale", [0.0, 0.3, 0.6, 2.0])
def test_scale_mixes_a_picture_with_a_painted_look_of_the_words(pipeline: StreamPipeline, scale: float) -> None:
    """Numbers are mixed: from 0.6 on the picture's alone, at 0.3 half, at 0 the words'."""
    seen, words = picture((20, 200, 20)), PLAIN.patched({"prompt": "ink wash", "picture.scale": scale})
    theirs, own = pipeline.pictures.style(seen), pipeline.graphs.parts.plain_styles[0].numpy()
    assert theirs is not None
    share = min(scale / 0.6, 1.0)
    mixed = PictureStyle((1 - share) * own + share * theirs.numbers, theirs.painter)
    wanted = with_picture(pipeline, mixed, PLAIN)
    assert distance(with_picture(pipeline, seen, words), wanted) < 0.5


def test_scale_fades_the_paint_where_words_name_no_painted_look(pipeline: StreamPipeline) -> None:
    plain, whole = with_picture(pipeline, None), with_picture(pipeline, picture((255, 20, 20)))
    half = with_picture(pipeline, picture((255, 20, 20)), PLAIN.patched({"picture.scale": 0.3}))
    assert distance(half, (plain.astype(float) + whole) / 2) < 1.0 < distance(half, whole)


def test_no_amount_of_style_is_no_paint(pipeline: StreamPipeline) -> None:
    none = PLAIN.patched({"style.amount": 0.0})
    assert np.array_equal(with_picture(pipeline, picture((255, 20, 20)), none), with_picture(pipeline, None))


def test_other_numbers_arrive_without_a_jump_and_then_hold(pipeline: StreamPipeline) -> None:
    state = pipeline.open(PLAIN)
    state.set_picture(picture((255, 20, 20)))
    before = shown(pipeline, state, 0)
    other = pipeline.pictures.style(picture((20, 20, 255)))
    state.set_picture(other)
    pictures = [before] + [shown(pipeline, state, index) for index in range(1, 2 + round(style_easing.SECONDS * 10))]
    changes = [distance(a, b) for a, b in pairwise(pictures)]
    whole = distance(pictures[0], pictures[-1])
    assert max(changes) < 0.25 * whole
    assert np.array_equal(pictures[-1], with_picture(pipeline, other))
    assert np.array_equal(shown(pipeline, state, 99), pictures[-1])


def with_pictures(pipeline: StreamPipeline, first: Pixels | None, second: Pixels | None, blend: float) -> Pixels:
    settings = PLAIN.patched({"picture.blend": blend})
    state = pipeline.open(settings)
    state.set_picture(first)
    state.set_picture(second, second=True)
    return shown(pipeline, state, 0, settings)


RED, BLUE = picture((255, 20, 20)), picture((20, 20, 255))


@pytest.mark.parametrize("blend", [0.0, 0.25, 0.5, 1.0])
def test_two_pictures_mix_by_their_numbers(pipeline: StreamPipeline, blend: float) -> None:
    red, blue = (pipeline.pictures.style(each) for each in (RED, BLUE))
    assert red is not None and blue is not None
    wanted = PictureStyle((1 - blend) * red.numbers + blend * blue.numbers, red.painter)
    assert distance(with_pictures(pipeline, RED, BLUE, blend), with_picture(pipeline, wanted)) < 0.5


@pytest.mark.parametrize("blend", [0.0, 0.5, 1.0])
def test_one_picture_alone_is_all_there_is_whatever_the_blend(pipeline: StreamPipeline, blend: float) -> None:
    assert np.array_equal(with_pictures(pipeline, RED, None, blend), with_picture(pipeline, RED))
    assert np.array_equal(with_pictures(pipeline, None, BLUE, blend), with_picture(pipeline, BLUE))


def test_a_walk_through_two_styles_has_no_jump(pipeline: StreamPipeline) -> None:
    state = pipeline.open(PLAIN)
    state.set_picture(RED)
    state.set_picture(BLUE, second=True)
    walk = [PLAIN.patched({"picture.blend": step / 20}) for step in range(21)]
    shown(pipeline, state, 0, walk[0])
    pictures = [shown(pipeline, state, 100 + index, settings) for index, settings in enumerate(walk)]
    whole = distance(pictures[0], pictures[-1])
    assert whole > 20 and max(distance(a, b) for a, b in pairwise(pictures)) < 0.25 * whole


def test_a_second_picture_arrives_without_a_jump(pipeline: StreamPipeline) -> None:
    settings = PLAIN.patched({"picture.blend": 0.7})
    state = pipeline.open(settings)
    state.set_picture(RED)
    pictures = [shown(pipeline, state, 0, settings)]
    state.set_picture(BLUE, second=True)
    pictures += [shown(pipeline, state, index, settings) for index in range(1, 2 + round(style_easing.SECONDS * 10))]
    whole = distance(pictures[0], pictures[-1])
    assert whole > 15 and max(distance(a, b) for a, b in pairwise(pictures)) < 0.25 * whole
    assert np.array_equal(pictures[-1], with_pictures(pipeline, RED, BLUE, 0.7))


def test_a_second_picture_alone_is_counted_as_paint(pipeline: StreamPipeline) -> None:
    state = pipeline.open(PLAIN)
    plain = pipeline.demand(state, frame(0), PLAIN)
    state.set_picture(BLUE, second=True)
    foreseen = pipeline.demand(state, frame(0), PLAIN)
    pipeline.step([Entry(state, frame(0), PLAIN)])
    assert foreseen != plain and foreseen == pipeline.work


def named(pipeline: StreamPipeline, names: StyleNames, prompt: str, **changes: object) -> Pixels:
    settings = PLAIN.patched({"prompt": prompt, **changes})
    pipeline.prepare(settings, pictured=True)
    state = pipeline.open(settings)
    state.set_names(names)
    foreseen = pipeline.demand(state, frame(0), settings)
    made = shown(pipeline, state, 0, settings)
    assert foreseen == pipeline.work
    return made


def style_of(pipeline: StreamPipeline, given: Pixels, name: str) -> PictureStyle:
    style = pipeline.pictures.style(given)
    assert style is not None
    return replace(style, name=name, source=None)


def test_a_session_s_style_is_painted_where_its_words_name_it(pipeline: StreamPipeline) -> None:
    red, blue = style_of(pipeline, RED, "red waves"), style_of(pipeline, BLUE, "blue waves")
    names = StyleNames([red, blue])
    assert distance(named(pipeline, names, "Red Waves"), with_picture(pipeline, red)) < 0.5
    both = PictureStyle((red.numbers + blue.numbers) / 2, red.painter)
    assert distance(named(pipeline, names, "red waves, blue waves"), with_picture(pipeline, both)) < 0.5
    faded = named(pipeline, names, "red waves", prompt_b="blue waves", blend=0.5)
    assert distance(faded, with_picture(pipeline, both)) < 0.5
    table = pipeline.graphs.parts.plain_styles[0].numpy()
    beside = PictureStyle((red.numbers + table) / 2, red.painter)
    assert distance(named(pipeline, names, "ink wash, red waves"), with_picture(pipeline, beside)) < 0.5
    assert distance(named(pipeline, StyleNames(), "red waves"), with_picture(pipeline, red)) > 5.0, "others do not know it"


def test_a_name_that_is_given_again_means_the_newer_style(pipeline: StreamPipeline) -> None:
    first = StyleNames([style_of(pipeline, RED, "waves")])
    second = first.with_style(style_of(pipeline, BLUE, "Waves"))
    assert distance(named(pipeline, second, "waves"), with_picture(pipeline, style_of(pipeline, BLUE, ""))) < 0.5
    assert distance(named(pipeline, first, "waves"), with_picture(pipeline, style_of(pipeline, RED, ""))) < 0.5


def test_a_name_of_another_painter_s_style_is_a_word_like_others(pipeline: StreamPipeline) -> None:
    stranger = StyleNames([replace(style_of(pipeline, RED, "red waves"), painter="ffffffffffff")])
    assert np.array_equal(named(pipeline, stranger, "red waves"), named(pipeline, StyleNames(), "red waves"))


def test_a_name_asks_for_the_painter_s_graph_and_is_understood(pipeline: StreamPipeline, folder: Path) -> None:
    names = StyleNames([style_of(pipeline, RED, "red waves")])
    fresh, wish = (
        load(StreamSpec(str(folder), SIZE, SIZE, "eager", "float32"), warm=False),
        PLAIN.patched({"prompt": "red waves"}),
    )
    assert GraphKey("paint", 1) not in fresh.graphs_for(wish)
    assert GraphKey("paint", 1) in fresh.graphs_for(wish, names=names)
    (found,) = fresh.understood(wish.patched({"negative": "red waves"}), names).listed()["understood"]
    assert found == {"setting": "prompt", "words": "red waves", "meaning": "red waves", "kind": "style", "by": "name"}


def test_a_removed_picture_leaves_the_words_look(pipeline: StreamPipeline) -> None:
    state = pipeline.open(PLAIN)
    state.set_picture(picture((255, 20, 20)))
    shown(pipeline, state, 0)
    state.set_picture(None)
    assert np.array_equal(shown(pipeline, state, 1), with_picture(pipeline, None))


def test_a_probe_s_shadow_leaves_the_way_to_a_style_as_it_is(pipeline: StreamPipeline) -> None:
    state = pipeline.open(PLAIN)
    state.set_picture(picture((255, 20, 20)))
    shown(pipeline, state, 0)
    state.set_picture(picture((20, 20, 255)))
    twin, before = state.shadow(), state.seen.style.current
    shown(pipeline, twin, 50)
    shown(pipeline, twin, 90)
    assert state.seen.unread and state.seen.style.origin is None
    assert state.seen.style.current is before is not twin.seen.style.current


def test_a_style_of_another_painter_is_not_painted(pipeline: StreamPipeline) -> None:
    style = pipeline.pictures.style(picture((255, 20, 20)))
    assert style is not None
    stranger = PictureStyle(style.numbers, "0123456789ab")
    assert pipeline.pictures.style(stranger) is None
    assert np.array_equal(with_picture(pipeline, stranger), with_picture(pipeline, None))


def test_a_picture_needs_the_painters_graph_and_is_counted_as_paint(folder: Path, pipeline: StreamPipeline) -> None:
    fresh = load(StreamSpec(str(folder), SIZE, SIZE, "eager", "float32"))
    paint = GraphKey("paint", 1)
    assert paint not in fresh.graphs_for(PLAIN)
    assert paint in fresh.graphs_for(PLAIN, pictured=True)
    assert paint not in fresh.graphs_for(PLAIN.patched({"picture.scale": 0.0}), pictured=True)
    state = pipeline.open(PLAIN)
    plain = pipeline.demand(state, frame(0), PLAIN)
    state.set_picture(picture((255, 20, 20)))
    foreseen = pipeline.demand(state, frame(0), PLAIN)
    pipeline.step([Entry(state, frame(0), PLAIN)])
    assert foreseen != plain and foreseen == pipeline.work


def test_sessions_with_and_without_a_picture_share_a_step(pipeline: StreamPipeline) -> None:
    states = [pipeline.open(PLAIN), pipeline.open(PLAIN)]
    states[1].set_picture(picture((255, 20, 20)))
    outputs = pipeline.step([Entry(state, frame(0), PLAIN) for state in states])
    pictures = [output.pixels.numpy() for output in outputs if output.pixels is not None]
    assert distance(pictures[0], with_picture(pipeline, None)) < 0.5
    assert distance(pictures[1], with_picture(pipeline, picture((255, 20, 20)))) < 0.5


def test_a_reader_of_another_painter_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    add_reader(tmp_path / "model", painter="0123456789ab")
    with pytest.raises(ModelError, match="style_reader: is for another painter"):
        _ = ModelParts(describe(str(tmp_path / "model"))).style_reader


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (700, 2), (448, 448)])
def test_pictures_of_every_shape_are_read(pipeline: StreamPipeline, shape: tuple[int, int]) -> None:
    for level in (0, 128, 255):
        style = pipeline.pictures.style(np.full((*shape, 3), level, np.uint8))
        assert style is not None and np.isfinite(style.numbers).all()
