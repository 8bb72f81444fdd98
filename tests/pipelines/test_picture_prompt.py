"""Picture prompts in the stream against diffusers' own IP-Adapter; live scales; what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from pipelines import Entry, Frame, ModelError, ModelParts, Output, Pixels, Settings, StreamPipeline, StreamSpec, describe, load
from pipelines.picture_prompt import behind, split
from tests.miniature import PICTURE_SIDE, PICTURE_TOKENS, save_adapter, save_family

SIZE = 128
FAMILIES = ("sd15", "sdxl")
RNG = np.random.default_rng(3)
SOURCE, PROMPT, OTHER = (RNG.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(3))
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


def stream(pipeline: StreamPipeline, settings: Settings, picture: Pixels | None, count: int = 1) -> list[Output]:
    pipeline.prepare(settings)
    state = pipeline.open(settings)
    state.set_picture(picture)
    answers = [pipeline.step([Entry(state, Frame(i, i / 25, SOURCE), settings)])[0] for i in range(count)]
    while state.in_flight:
        answers += pipeline.step([Entry(state, None, settings)])
    return [answer for answer in answers if answer.pixels is not None]


def drawn(pipeline: StreamPipeline, settings: Settings, picture: Pixels | None) -> Pixels:
    (answer,) = stream(pipeline, settings, picture)
    assert answer.pixels is not None
    return answer.pixels.numpy()


def close(a: Pixels, b: Pixels, tolerance: int = 1) -> bool:
    return int(np.abs(a.astype(int) - b).max()) <= tolerance


def theirs(folder: Path, adapter: Path, family: str) -> Any:
    """Diffusers' pipeline with the adapter loaded its own way."""
    cls = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    encoder = CLIPVisionModelWithProjection.from_pretrained(adapter / "image_encoder", local_files_only=True)
    size = {"height": PICTURE_SIDE, "width": PICTURE_SIDE}
    view = CLIPImageProcessor(size={"shortest_edge": PICTURE_SIDE}, crop_size=size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        pipe = cls.from_pretrained(folder, local_files_only=True, image_encoder=encoder, feature_extractor=view)
        pipe.load_ip_adapter(
            str(adapter), subfolder="", weight_name="ip-adapter.safetensors", image_encoder_folder=None, local_files_only=True
        )
    return pipe


def by_hand(pipe: Any, noise: Any, family: str, settings: Settings, picture: Pixels) -> Pixels:
    """Sequential denoising by diffusers' parts; the picture's embedding is the one of its own pipeline."""
    pipe.set_ip_adapter_scale(settings.picture.scale)
    embeds = pipe.prepare_ip_adapter_image_embeds(Image.fromarray(picture), None, "cpu", 1, True)[0]
    none, seen = embeds.chunk(2)
    said = pipe.encode_prompt(settings.prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True)
    bars, scale = pipe.scheduler.alphas_cumprod, pipe.vae.config.scaling_factor
    ids = torch.tensor([[SIZE, SIZE, 0, 0, SIZE, SIZE]], dtype=torch.float32)
    with torch.no_grad():
        pixels = torch.from_numpy(SOURCE).permute(2, 0, 1)[None] / 127.5 - 1
        x0 = pipe.vae.encode(pixels).latent_dist.mode() * scale
        for level in range(settings.steps):
            t = round(round(settings.strength * 999) * (settings.steps - level) / settings.steps)
            a, s = bars[t] ** 0.5, (1 - bars[t]) ** 0.5
            x, out = a * x0 + s * noise.level(level), []
            for index, (text, view) in enumerate(zip(said[:2], (seen, none), strict=True)):
                extra: dict[str, Any] = {"image_embeds": [view]}
                if family == "sdxl":
                    extra |= {"text_embeds": said[2 + index], "time_ids": ids}
                out.append(pipe.unet(x, t, encoder_hidden_states=text, added_cond_kwargs=extra).sample)
            guided = settings.guidance_mode == "full"
            guess = out[1] + settings.guidance * (out[0] - out[1]) if guided else out[0]
            x0 = (x - s * guess) / a
        shown = pipe.vae.decode(x0 / scale).sample[0]
    return ((shown + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 0).to(torch.uint8).numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_equals_diffusers_own_adapter(
    folders: dict[str, tuple[Path, Path]], pipelines: dict[str, StreamPipeline], family: str
) -> None:
    pipeline, pipe = pipelines[family], theirs(*folders[family], family)
    for guidance, scale in (("none", 0.7), ("full", 1.3)):
        settings = BASE.patched({"steps": 2, "guidance_mode": guidance, "guidance": 2.0, "picture.scale": scale})
        noise = pipeline.open(settings).noise
        # A square picture: the two libraries' bicubic filters differ by a rounding.
        expected = by_hand(pipe, noise, family, settings, PROMPT)
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
    got, got_none = parts.look(PICTURE)
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
        entries.append(Entry(state, Frame(0, 0.0, SOURCE), settings))
    for answer, (settings, picture) in zip(pipeline.step(entries), wishes, strict=True):
        assert close(answer.pixels.numpy(), drawn(pipeline, settings, picture))  # type: ignore[union-attr]


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
    fast, slow = (stream(pipelines["sd15"], wish, PROMPT, 4) for wish in (settings, plain))
    for answer, expected in zip(fast, slow, strict=True):
        assert close(answer.pixels.numpy(), expected.pixels.numpy())  # type: ignore[union-attr]


def test_another_picture_ends_what_was_cached_and_holds_from_the_next_frame(pipelines: dict[str, StreamPipeline]) -> None:
    pipeline, settings = pipelines["sd15"], BASE.patched({"cache.enabled": True, "cache.interval": 9})
    pipeline.prepare(settings)
    state, verdicts, shown = pipeline.open(settings), [], []
    for index, picture in enumerate((None, None, PROMPT, PROMPT, OTHER, OTHER)):
        if picture is not state.picture:
            state.set_picture(picture)
        (answer,) = pipeline.step([Entry(state, Frame(index, index / 25, SOURCE), settings)])
        verdicts.append(answer.verdict)
        shown.append(answer.pixels.numpy())  # type: ignore[union-attr]
    assert verdicts == ["generated", "cached"] * 3
    assert all(close(shown[2 * pair], shown[2 * pair + 1]) for pair in range(3))
    assert not close(shown[1], shown[3], 2) and not close(shown[3], shown[5], 2)


def test_a_row_carries_its_tokens_behind_its_text() -> None:
    text, tokens = torch.randn(2, 8, 32), torch.randn(4, 32)
    rows = torch.cat([text, behind(tokens, 0.5)[None].expand(2, -1, -1)], dim=1)
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
    fewer = {name: value for name, value in tensors.items() if not name.endswith("1.to_k_ip.weight")}
    with pytest.raises(ModelError, match=r"holds 'image_proj.latents'; plain IP-Adapters alone"):
        attempt(plus)
    with pytest.raises(ModelError, match=r"lacks 'image_proj.norm.bias'"):
        attempt({name: value for name, value in tensors.items() if name != "image_proj.norm.bias"})
    with pytest.raises(ModelError, match="is missing"):
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
