"""Picture prompts in the stream against diffusers' own IP-Adapter; live scales; what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from pipelines import Entry, ModelError, ModelParts, Pixels, Settings, StreamPipeline, StreamSpec, describe, load
from pipelines.networks.picture_prompt import split, suffix
from pipelines.techniques.noise import SessionNoise
from tests import by_hand
from tests.by_hand import pipe_of, rows
from tests.miniature import PICTURE_SIDE, PICTURE_TOKENS, save_adapter, save_family
from tests.streams import PICTURES, SIZE, alike, close, frames, shown, stream

FAMILIES = ("sd15", "sdxl")
RNG = np.random.default_rng(4)
PROMPT, OTHER = (RNG.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(2))
PICTURE = np.kron(RNG.integers(0, 256, (7, 9, 3)), np.ones((16, 16, 1))).astype(np.uint8)  # 112 x 144
BASE = Settings().patched({"prompt": "ink", "strength": 0.6, "picture.scale": 0.7})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Family → (checkpoint, adapter)."""
    root = tmp_path_factory.mktemp("picture")
    return {name: (save_family(root / name, name), save_adapter(root / f"{name}-adapter", name)) for name in FAMILIES}


@pytest.fixture(scope="module")
def pipelines(folders: dict[str, tuple[Path, Path]]) -> dict[str, StreamPipeline]:
    return {name: load(spec(*pair)) for name, pair in folders.items()}


def spec(model: Path, adapter: Path | None) -> StreamSpec:
    name = str(model) if adapter is None else f"{model}+picture={adapter}"
    return StreamSpec(name, SIZE, SIZE, "eager", "float32")


def drawn(pipeline: StreamPipeline, settings: Settings, picture: Pixels | None) -> Pixels:
    (answer,) = stream(pipeline, settings, frames(1), picture=picture)
    return shown(answer)


def theirs(folder: Path, adapter: Path, family: str) -> Any:
    """Diffusers' pipeline with the adapter loaded its own way."""
    encoder = CLIPVisionModelWithProjection.from_pretrained(adapter / "image_encoder", local_files_only=True)
    size = {"height": PICTURE_SIDE, "width": PICTURE_SIDE}
    view = CLIPImageProcessor(size={"shortest_edge": PICTURE_SIDE}, crop_size=size)
    pipe = pipe_of(folder, family, image_encoder=encoder, feature_extractor=view)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        pipe.load_ip_adapter(
            str(adapter), subfolder="", weight_name="ip-adapter.safetensors", image_encoder_folder=None, local_files_only=True
        )
    return pipe


def expected_of(pipe: Any, noise: SessionNoise, settings: Settings, picture: Pixels) -> Pixels:
    """The picture's embedding is the one of diffusers' own pipeline."""
    pipe.set_ip_adapter_scale(settings.picture.scale)
    none, seen = pipe.prepare_ip_adapter_image_embeds(Image.fromarray(picture), None, "cpu", 1, True)[0].chunk(2)
    texts = rows(pipe, settings.prompt, SIZE)

    def network(x: Tensor, t: int, row: int) -> Tensor:
        text, added = texts[row]
        extra = {"image_embeds": [(seen, none)[row]], **added}
        return pipe.unet(x, t, encoder_hidden_states=text, added_cond_kwargs=extra).sample

    return by_hand.drawn(pipe, network, settings, PICTURES[0], noise)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_equals_diffusers_own_adapter(
    folders: dict[str, tuple[Path, Path]], pipelines: dict[str, StreamPipeline], family: str
) -> None:
    pipeline, pipe = pipelines[family], theirs(*folders[family], family)
    for guidance, scale in (("none", 0.7), ("full", 1.3)):
        settings = BASE.patched({"steps": 2, "guidance_mode": guidance, "guidance": 2.0, "picture.scale": scale})
        noise = pipeline.open(settings).noise
        # A square picture: the two libraries' bicubic filters differ by a rounding.
        expected = expected_of(pipe, noise, settings, PROMPT)
        assert close(drawn(pipeline, settings, PROMPT), expected, 2)
        assert not close(drawn(pipeline, settings, OTHER), expected, 2)
        assert not close(drawn(pipeline, settings, None), expected, 5)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_those_of_diffusers(folders: dict[str, tuple[Path, Path]], family: str) -> None:
    parts = ModelParts(describe(spec(*folders[family]).model))
    assert parts.picture_tokens == PICTURE_TOKENS
    pipe = theirs(*folders[family], family)
    with torch.no_grad():
        embeds = pipe.prepare_ip_adapter_image_embeds(Image.fromarray(PICTURE), None, "cpu", 1, True)
        (tokens,) = pipe.unet.encoder_hid_proj(embeds)
    none, seen = tokens.reshape(2, PICTURE_TOKENS, -1)
    got, got_none = parts.encode_picture(PICTURE)
    torch.testing.assert_close(got_none, none)
    torch.testing.assert_close(got, seen, rtol=0.05, atol=0.05)  # Pillow rounds to whole grey levels, this does not


@pytest.mark.parametrize("family", FAMILIES)
def test_scale_nought_and_no_picture_are_the_model_itself(
    folders: dict[str, tuple[Path, Path]], pipelines: dict[str, StreamPipeline], family: str
) -> None:
    plain = drawn(load(spec(folders[family][0], None)), BASE, PROMPT)
    assert close(drawn(pipelines[family], BASE, None), plain)
    assert close(drawn(pipelines[family], BASE.patched({"picture.scale": 0.0}), PROMPT), plain)
    assert not close(drawn(pipelines[family], BASE, PROMPT), plain, 5)


def test_rows_with_pictures_of_their_own_share_a_call(pipelines: dict[str, StreamPipeline]) -> None:
    pipeline = pipelines["sdxl"]
    wishes = [(BASE, PROMPT), (BASE.patched({"picture.scale": 1.5}), OTHER), (BASE, None)]
    entries = []
    for settings, picture in wishes:
        state = pipeline.open(settings)
        state.set_picture(picture)
        entries.append(Entry(state, frames(1)[0], settings))
    for answer, (settings, picture) in zip(pipeline.step(entries), wishes, strict=True):
        assert close(shown(answer), drawn(pipeline, settings, picture))


@pytest.mark.parametrize(
    "patch",
    [
        {"steps": 3},
        {"steps": 2, "guidance_mode": "full", "cache.enabled": True, "cache.interval": 3},
        {"steps": 2, "guidance_mode": "one-time"},
    ],
)
def test_accelerations_go_on_with_a_picture_prompt(pipelines: dict[str, StreamPipeline], patch: dict[str, object]) -> None:
    settings = BASE.patched(patch)
    plain = settings.patched({"cache.enabled": False, "stream_batch.enabled": False})
    fast, slow = (stream(pipelines["sd15"], wish, frames(4, still=True), picture=PROMPT) for wish in (settings, plain))
    assert alike(fast, slow)


def test_another_picture_ends_what_was_cached_and_holds_from_the_next_frame(pipelines: dict[str, StreamPipeline]) -> None:
    pipeline, settings = pipelines["sd15"], BASE.patched({"cache.enabled": True, "cache.interval": 9})
    pipeline.prepare(settings)
    state, verdicts, made = pipeline.open(settings), [], []
    for frame, picture in zip(frames(6, still=True), (None, None, PROMPT, PROMPT, OTHER, OTHER), strict=True):
        if picture is not state.seen.picture:
            state.set_picture(picture)
        (answer,) = pipeline.step([Entry(state, frame, settings)])
        verdicts.append(answer.verdict)
        made.append(shown(answer))
    assert verdicts == ["generated", "cached"] * 3
    assert all(close(made[2 * pair], made[2 * pair + 1]) for pair in range(3))
    assert not close(made[1], made[3], 2) and not close(made[3], made[5], 2)


@pytest.mark.parametrize("blend", [0.0, 0.3, 1.0])
def test_two_pictures_mix_by_their_tokens(pipelines: dict[str, StreamPipeline], blend: float) -> None:
    pipeline, settings = pipelines["sd15"], BASE.patched({"steps": 2, "picture.blend": blend})
    pipeline.prepare(settings)
    state = pipeline.open(settings)
    state.set_picture(PROMPT)
    state.set_picture(OTHER, second=True)
    pipeline.step([Entry(state, frames(1)[0], settings)])
    ((seen, unseen),) = [one.picture for one in state.ring.frames if one.picture is not None]
    (first, none), (second, _) = (pipeline.graphs.parts.encode_picture(each) for each in (PROMPT, OTHER))
    torch.testing.assert_close(seen, (1 - blend) * first + blend * second)
    torch.testing.assert_close(unseen, none)


def test_blends_of_two_pictures_end_at_each_of_them_and_one_alone_is_whole(pipelines: dict[str, StreamPipeline]) -> None:
    pipeline = pipelines["sd15"]

    def both(first: Pixels | None, second: Pixels | None, blend: float) -> Pixels:
        settings = BASE.patched({"picture.blend": blend})
        state = pipeline.open(settings)
        state.set_picture(first)
        state.set_picture(second, second=True)
        (answer,) = pipeline.step([Entry(state, frames(1)[0], settings)])
        return shown(answer)

    one, other = (drawn(pipeline, BASE, each) for each in (PROMPT, OTHER))
    assert close(both(PROMPT, OTHER, 0.0), one) and close(both(PROMPT, OTHER, 1.0), other)
    assert close(both(PROMPT, None, 0.7), one) and close(both(None, OTHER, 0.3), other)
    half = both(PROMPT, OTHER, 0.5)
    assert not close(half, one, 2) and not close(half, other, 2)


def test_a_row_carries_its_tokens_behind_its_text() -> None:
    text, tokens = torch.randn(2, 8, 32), torch.randn(4, 32)
    rows = torch.cat([text, suffix(tokens, 0.5)[None].expand(2, -1, -1)], dim=1)
    got, seen, scale = split(rows, 4)
    assert torch.equal(got, text) and torch.equal(seen[1], tokens) and torch.equal(scale, torch.full((2, 1, 1), 0.5))


def test_what_does_not_fit_is_refused_by_name(folders: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    model, adapter = folders["sd15"]
    tensors = load_file(adapter / "ip-adapter.safetensors")

    def attempt(content: dict[str, Any], encoder: bool = True) -> ModelParts:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        save_file(content, folder / "ip-adapter.safetensors")
        if encoder:
            (folder / "image_encoder").symlink_to(adapter / "image_encoder")
        return ModelParts(describe(f"{model}+picture={folder}"))

    plus = {"image_proj.latents": torch.zeros(1, 4, 8), **tensors}
    face = {"image_proj.perceiver_resampler.proj_in.weight": torch.zeros(1, 4), **tensors}
    fewer = {name: value for name, value in tensors.items() if not name.endswith("1.to_k_ip.weight")}
    with pytest.raises(ModelError, match=r"lacks 'image_proj.proj_in.weight'"):
        attempt(plus)
    with pytest.raises(ModelError, match="is an IP-Adapter FaceID Plus, which takes vectors of the face recognition insightface"):
        attempt(face)
    with pytest.raises(ModelError, match=r"lacks 'image_proj.norm.bias'"):
        attempt({name: value for name, value in tensors.items() if name != "image_proj.norm.bias"})
    with pytest.raises(ModelError, match="there is no picture encoder beside it"):
        attempt(tensors, encoder=False)
    with pytest.raises(ModelError, match="is for another picture encoder: it takes 9 numbers"):
        attempt({**tensors, "image_proj.proj.weight": torch.zeros(PICTURE_TOKENS * 32, 9)})
    with pytest.raises(ModelError, match="lacks 'ip_adapter"):
        _ = attempt(fewer).unet
    with pytest.raises(ModelError, match=r"has no place for 'ip_adapter.99"):
        _ = attempt({**tensors, "ip_adapter.99.to_k_ip.weight": torch.zeros(2, 32)}).unet
    with pytest.raises(ModelError, match=r"has shape \[2, 32\], not \[32, 32\]"):
        _ = attempt({**tensors, "ip_adapter.1.to_k_ip.weight": torch.zeros(2, 32)}).unet
    with pytest.raises(ModelError, match="tokens have 80 numbers, the UNet takes 32"):
        ModelParts(describe(f"{model}+picture={folders['sdxl'][1]}"))
