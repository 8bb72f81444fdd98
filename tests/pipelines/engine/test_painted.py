"""Painted looks in the engine: decoder and painter in one graph, against the two run one after the other."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

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
    describe,
    load,
    write_style,
)
from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.graphs.keys import GraphKey
from pipelines.networks.painter import Painter
from pipelines.networks.trunk import TrunkPainter
from pipelines.values.picture_style import TONE

SIZE = 128
BACKENDS = ("eager", "openvino")
SMALL = partial(Painter, channels=8, blocks=1, up_channels=(8, 4))
SMALL_TRUNK = partial(TrunkPainter, channels=8, num_blocks=1, half_channels=4)
LOOKS = {"ink wash": {"0": 1.0}, "blue swirl": {"1": 0.75, "2": 0.25}}


def add_painter(folder: Path, looks: dict[str, dict[str, float]]) -> None:
    torch.manual_seed(3)
    painter = Painter(channels=8, blocks=1, up_channels=(8, 4), num_styles=3, looks=looks)
    painter.styles.normal_(1.0, 0.5)
    painter.save_pretrained(folder / "painter")


@pytest.fixture(scope="module")
def folder(one_chunk_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("painted") / "model"
    shutil.copytree(one_chunk_model, made)
    add_painter(made, LOOKS)
    return made


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> StreamPipeline:
    made = load(StreamSpec(str(folder), SIZE, SIZE, "eager", "float32"))
    made.prepare(Settings().patched({"prompt": "ink wash"}), 3)
    return made


def frame(index: int = 0) -> Frame:
    return Frame(index, index / 25, clips.clip("handheld", SIZE, SIZE)[7 * index])


def once(pipeline: StreamPipeline, **changes: object) -> Pixels:
    settings = Settings().patched({key.replace("__", "."): value for key, value in changes.items()})
    (output,) = pipeline.step([Entry(pipeline.open(settings), frame(), settings)])
    assert output.pixels is not None
    return output.pixels.numpy()


@pytest.fixture
def latents(pipeline: StreamPipeline, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Every latent [1, C, h, w] that reaches the decoder, painted or not, in order."""
    seen: list[torch.Tensor] = []
    run = pipeline.graphs.run

    def spy(part: str, inputs: tuple[torch.Tensor, ...], *rest: Any) -> tuple[torch.Tensor, ...]:
        if part in ("decode", "paint"):
            seen.extend(inputs[0].split(1))
        return run(part, inputs, *rest)

    monkeypatch.setattr(pipeline.graphs, "run", spy)
    return seen


def painted(pipeline: StreamPipeline, latent: torch.Tensor, row: dict[int, float], amount: float) -> Pixels:
    """The decoder's picture of a latent, repainted by the painter itself."""
    parts = pipeline.graphs.parts
    with torch.no_grad():
        x = parts.vae.float().decode(latent / parts.vae.config.scaling_factor, return_dict=False)[0].clamp(-1, 1)
        y = torch.lerp(x, parts.painter.float()(x, parts.painter.style(row)[None]), amount)
    return ((y[0] + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 0).to(torch.uint8).numpy()


def distance(a: Pixels, b: Pixels) -> float:
    return float(np.abs(a.astype(int) - b).mean())


@pytest.mark.parametrize("amount", [0.4, 1.0])
@pytest.mark.parametrize(("prompt", "row"), [("ink wash", {0: 1.0}), ("Blue Swirl", {1: 0.75, 2: 0.25})])
def test_a_painted_look_is_the_painters_picture_of_the_photo(
    pipeline: StreamPipeline, latents: list[torch.Tensor], prompt: str, row: dict[int, float], amount: float
) -> None:
    plain, seen = once(pipeline, prompt="photo"), once(pipeline, prompt=prompt, style__amount=amount)
    torch.testing.assert_close(latents[0], latents[1])  # the same photo lies beneath
    assert distance(seen, painted(pipeline, latents[1], row, amount)) < 0.5
    assert distance(seen, plain) > 5.0


@pytest.mark.parametrize("kind", [SMALL, SMALL_TRUNK], ids=["published", "trunk"])
def test_a_folder_may_have_either_painter_with_tones(mini_model: Path, tmp_path: Path, kind: partial[Any]) -> None:
    """And its graph prints in the tone's two colours: OpenVINO against PyTorch."""
    folder = tmp_path / "model"
    shutil.copytree(mini_model, folder)
    torch.manual_seed(3)
    painter = kind(num_styles=2, looks={"ink wash": {"1": 1.0}}, toned=True)
    with torch.no_grad():
        painter.styles.normal_(1.0, 0.5)
        painter.styles[:, -TONE:] = torch.tensor([[0.0] * TONE, [1.0, -0.8, -0.6, -0.2, 0.9, 0.4, 0.1]])
    painter.save_pretrained(folder / "painter")
    seen = {}
    for backend in BACKENDS:
        graphs = load(StreamSpec(str(folder), SIZE, SIZE, backend, "float32"), warm=False).graphs
        style = graphs.parts.styles.read("ink wash")[1]
        assert style is not None and graphs.build(GraphKey("paint", 1), must=True)
        latents = torch.randn(1, *graphs.latent_shape, generator=torch.Generator().manual_seed(1))
        seen[backend] = graphs.run("paint", (latents, style.numbers[None], torch.ones(1), torch.tensor([1.4])))[0][0].numpy()
    assert distance(*seen.values()) < 0.5
    dark, light = np.array([25.5, 51.0, 102.0]), np.array([242.25, 178.5, 140.25])
    along = (seen["eager"] - dark) @ (light - dark) / np.square(light - dark).sum()
    assert np.abs(dark + along[..., None] * (light - dark) - seen["eager"]).max() < 1.0 and along.std() > 0.02


def test_other_words_reach_the_text_encoder_and_no_amount_is_no_paint(pipeline: StreamPipeline) -> None:
    plain = once(pipeline, prompt="photo, a stormy sea")
    assert np.array_equal(once(pipeline, prompt="a stormy sea, ink wash", style__amount=0.0), plain)
    assert distance(once(pipeline, prompt="a stormy sea, ink wash"), plain) > 5.0


def test_strength_leads_a_painted_picture_away_from_its_source(pipeline: StreamPipeline) -> None:
    """The UNet's own part is the same at strengths so near to each other; what grows is the paint, then its freedom."""
    for before, after in ((0.2, 0.3), (0.6, 0.7)):
        plain = [once(pipeline, prompt="photo", strength=strength) for strength in (before, after)]
        inked = [once(pipeline, prompt="ink wash", strength=strength) for strength in (before, after)]
        assert distance(*inked) > distance(*plain) + 0.3
    assert distance(once(pipeline, prompt="photo", strength=0.0), once(pipeline, prompt="ink wash", strength=0.0)) < 0.5


def test_a_blend_with_an_unpainted_prompt_fades_the_paint(pipeline: StreamPipeline, latents: list[torch.Tensor]) -> None:
    mixed = once(pipeline, prompt="photo", prompt_b="ink wash", blend=0.25)
    assert distance(mixed, painted(pipeline, latents[0], {0: 1.0}, 0.25)) < 0.5


def test_painted_and_unpainted_sessions_share_a_step(pipeline: StreamPipeline) -> None:
    prompts = ("ink wash", "photo", "blue swirl", "photo, a cat")
    settings = [Settings().patched({"prompt": prompt}) for prompt in prompts]
    outputs = pipeline.step([Entry(pipeline.open(one), frame(), one) for one in settings])
    for prompt, output in zip(prompts, outputs, strict=True):
        assert output.pixels is not None
        assert distance(output.pixels.numpy(), once(pipeline, prompt=prompt)) < 0.5, prompt


def test_several_steps_in_a_batch_are_painted_when_they_are_done(pipeline: StreamPipeline, latents: list[torch.Tensor]) -> None:
    settings = Settings().patched({"prompt": "ink wash", "steps": 2})
    state = pipeline.open(settings)
    outputs = [pipeline.step([Entry(state, frame(index), settings)])[0] for index in range(3)]
    pictures = [output.pixels.numpy() for output in outputs if output.pixels is not None]
    assert len(pictures) == len(latents) == 2
    for picture, latent in zip(pictures, latents, strict=True):
        assert distance(picture, painted(pipeline, latent, {0: 1.0}, 1.0)) < 0.5


def test_until_the_graph_is_ready_pictures_come_unpainted(folder: Path) -> None:
    pipeline = load(StreamSpec(str(folder), SIZE, SIZE, "eager", "float32"))
    wish = Settings().patched({"prompt": "ink wash"})
    assert GraphKey("paint", 1) in pipeline.graphs_for(wish) and not pipeline.graphs.ready(GraphKey("paint", 1))
    assert GraphKey("paint", 1) not in pipeline.graphs_for(wish.patched({"style.amount": 0.0}))
    assert GraphKey("paint", 1) not in pipeline.graphs_for(wish.patched({"prompt": "photo"}))
    early = once(pipeline, prompt="ink wash")
    assert np.array_equal(early, once(pipeline, prompt="photo"))
    pipeline.prepare(wish)
    assert distance(once(pipeline, prompt="ink wash"), early) > 5.0


def test_a_style_s_name_in_the_words_paints_as_the_style_itself(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model/styles").mkdir()
    parts = ModelParts(describe(str(folder)))
    style = PictureStyle(parts.plain_styles.numpy().mean(0), parts.painter_fingerprint, "red waves")
    (tmp_path / "model/styles/red.safetensors").write_bytes(write_style(style))
    pipeline = load(StreamSpec(str(tmp_path / "model"), SIZE, SIZE, "eager", "float32"))
    pipeline.prepare(Settings().patched({"prompt": "red waves"}))
    wish = Settings().patched({"prompt": "photo"})
    state = pipeline.open(wish)
    state.set_picture(style)
    (output,) = pipeline.step([Entry(state, frame(), wish)])
    assert output.pixels is not None
    wanted = output.pixels.numpy()
    assert distance(once(pipeline, prompt="Red Waves"), wanted) < 0.5
    assert distance(once(pipeline, prompt="photo"), wanted) > 5.0
    mixed = once(pipeline, prompt="red waves, ink wash")
    assert distance(mixed, wanted) > 2.0 and distance(mixed, once(pipeline, prompt="ink wash")) > 2.0
    assert "red waves" in pipeline.info.prompts


def test_a_style_of_another_painter_in_the_folder_is_an_error_that_names_it(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model/styles").mkdir()
    style = PictureStyle(ModelParts(describe(str(folder))).plain_styles[0].numpy(), "0123456789ab", "red waves")
    (tmp_path / "model/styles/red.safetensors").write_bytes(write_style(style))
    with pytest.raises(ModelError, match="styles: red waves: is for another painter"):
        _ = ModelParts(describe(str(tmp_path / "model"))).styles


def test_a_look_beyond_the_table_is_an_error_that_names_it(mini_model: Path, tmp_path: Path) -> None:
    shutil.copytree(mini_model, tmp_path / "model")
    add_painter(tmp_path / "model", {"far": {"7": 1.0}})
    with pytest.raises(ModelError, match="'far' mixes a row beyond 2"):
        _ = ModelParts(describe(str(tmp_path / "model"))).styles


def test_other_weights_of_the_painter_make_another_graph(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    before = ModelParts(describe(str(tmp_path / "model"))).fingerprints
    painter = Painter.from_pretrained(tmp_path / "model" / "painter")
    painter.styles += 1.0
    painter.save_pretrained(tmp_path / "model" / "painter")
    after = ModelParts(describe(str(tmp_path / "model"))).fingerprints
    assert after.painter != before.painter and replace(after, painter=before.painter) == before
