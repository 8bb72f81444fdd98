"""IP-Adapter Plus and full face against diffusers' own; where their picture encoder lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines import Entry, Frame, ModelError, ModelParts, Pixels, Settings, StreamPipeline, describe, inspect_model
from pipelines.values.models import Hub
from tests.miniature import ONE_CHUNK, PICTURE_SIDE, fewer_layers, save_adapter, save_family
from tests.pipelines.checkpoints.test_controls import theirs
from tests.pipelines.engine.test_beside import opened
from tests.pipelines.networks.test_picture_prompt import theirs as adapted
from tests.streams import PICTURES

PICTURE: Pixels = np.random.default_rng(4).integers(0, 256, (90, 120, 3), dtype=np.uint8)
BASE = Settings().patched({"prompt": "ink", "strength": 1.0, "guidance": 2.0, "picture.scale": 0.7})
TOKENS = {"plus": 16, "full": (PICTURE_SIDE // 14) ** 2 + 1}
CASES = [("sd15", "plus"), ("sd15", "full"), ("sdxl", "plus")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Path, Path]]:
    root = tmp_path_factory.mktemp("kinds")
    models = {family: save_family(root / family, family) for family in ("sd15", "sdxl")}
    return {
        (family, kind): (models[family], save_adapter(root / f"{family}-{kind}", family, kind=kind)) for family, kind in CASES
    }


def ours(pipeline: StreamPipeline, settings: Settings, picture: Pixels | None) -> tuple[Tensor, Tensor]:
    """(the noise, the finished latent) of one frame, [1, C, h, w] each."""
    pipeline.prepare(settings, pictured=True)
    state = pipeline.open(settings)
    state.set_picture(picture)
    pipeline.step([Entry(state, Frame(0, 0.0, PICTURES[0]), settings)])
    assert state.previous_x0 is not None
    return state.noise.level(0)[None], state.previous_x0[None]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_latents_and_tokens_are_those_of_diffusers(folders: dict[Any, tuple[Path, Path]], case: tuple[str, str]) -> None:
    model, adapter = folders[case]
    name = f"{model}+picture={adapter}"
    assert inspect_model(name).problem is None
    parts, pipe = ModelParts(describe(name)), adapted(model, adapter, case[0])
    assert parts.picture_tokens == TOKENS[case[1]]
    with torch.no_grad():
        embeds = pipe.prepare_ip_adapter_image_embeds(Image.fromarray(PICTURE), None, "cpu", 1, True)
        (tokens,) = pipe.unet.encoder_hid_proj(embeds)
    none, seen = tokens.reshape(2, TOKENS[case[1]], -1)
    for mine, other in zip(parts.encode_picture(PICTURE), (seen, none), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
    pipe.set_ip_adapter_scale(BASE.picture.scale)
    pipeline = opened(name)
    for guidance in ("none", "full"):
        settings = BASE.patched({"guidance_mode": guidance})
        noise, got = ours(pipeline, settings, PICTURE)
        expected = theirs(pipe, settings, noise, ip_adapter_image=Image.fromarray(PICTURE))
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
        assert (got - ours(pipeline, settings, None)[1]).abs().max() > 1e-2


def test_the_encoder_may_lie_elsewhere(folders: dict[Any, tuple[Path, Path]], tmp_path: Path) -> None:
    model, adapter = folders["sd15", "plus"]
    alone = tmp_path / "ip-adapter-plus.safetensors"
    alone.write_bytes((adapter / "ip-adapter.safetensors").read_bytes())
    assert "or name it: +encoder=FOLDER" in (inspect_model(f"{model}+picture={alone}").problem or "")
    name = f"{model}+picture={alone}+encoder={adapter / 'image_encoder'}"
    assert inspect_model(name).problem is None and describe(name).picture is not None
    with pytest.raises(ModelError, match="comes after an adapter for picture prompts"):
        describe(f"{model}+encoder={adapter / 'image_encoder'}+picture={alone}")


@pytest.mark.parametrize(
    ("file", "encoder"),
    [
        ("models/ip-adapter-plus_sd15.safetensors", "models/image_encoder/model.safetensors"),
        ("sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors", "models/image_encoder/model.safetensors"),
        ("sdxl_models/ip-adapter_sdxl.safetensors", "sdxl_models/image_encoder/model.safetensors"),
    ],
)
def test_an_adapter_of_the_hub_has_the_encoder_of_its_repository(file: str, encoder: str) -> None:
    picture = describe(f"a/b+picture=h94/IP-Adapter@main/{file}").picture
    assert picture is not None
    assert (picture.weights, picture.encoder) == (Hub("h94/IP-Adapter", "main", file), Hub("h94/IP-Adapter", "main", encoder))


@pytest.mark.parametrize("change", ["cut", "shape"])
@pytest.mark.parametrize("kind", TOKENS)
def test_a_broken_projection_is_refused(folders: dict[Any, tuple[Path, Path]], tmp_path: Path, kind: str, change: str) -> None:
    model, adapter = folders["sd15", kind]
    content = load_file(adapter / "ip-adapter.safetensors")
    name = {"plus": "image_proj.layers.3.1.3.weight", "full": "image_proj.proj.2.weight"}[kind]
    value = content.pop(name)
    save_file({**content, **({name: value[:1].contiguous()} if change == "shape" else {})}, tmp_path / "x.safetensors")
    name = f"{model}+picture={tmp_path / 'x.safetensors'}+encoder={adapter / 'image_encoder'}"
    assert "x.safetensors: its projection does not fit an IP-Adapter: Error(s) in loading" in (inspect_model(name).problem or "")


@pytest.mark.long
def test_static_graphs_agree_with_eager(tmp_path: Path, graph_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fewer_layers(monkeypatch, "sd15")
    model = save_family(tmp_path / "model", "sd15", kl=False, tokens=ONE_CHUNK)
    adapter = save_adapter(tmp_path / "adapter", "sd15", kind="plus")
    name = f"{model}+picture={adapter}"
    got, expected = ours(opened(name, "openvino", graph_cache), BASE, PICTURE)[1], ours(opened(name), BASE, PICTURE)[1]
    assert (got - expected).abs().max() < 2e-3 * expected.abs().max()
