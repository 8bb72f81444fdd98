"""Parts that a user names (a UNet, an autoencoder) and fp8 files, against diffusers with the same weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from pipelines import Entry, Frame, ModelError, ModelParts, Settings, StreamSpec, describe, inspect_model, load
from pipelines.checkpoints.loader import single
from tests import ldm
from tests.by_hand import denoised, pipe_of, plain
from tests.ldm import write_single_file
from tests.miniature import full_autoencoder, save_adapter, save_control, save_family, save_lora
from tests.pipelines.checkpoints.test_adapters import latents
from tests.streams import PICTURES, SIZE

FILE = "diffusion_pytorch_model.safetensors"
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 56}
QUERY = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = save_family(tmp_path / "model", "sd15")
    monkeypatch.setitem(single.LAYOUTS, "sd15", folder)
    return folder


def same(ours: torch.nn.Module, theirs: dict[str, Tensor], tolerance: float = 0.0) -> None:
    state = ours.state_dict()
    assert state.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(state[name].float(), value.float(), rtol=tolerance, atol=tolerance)


def autoencoder(seed: int) -> AutoencoderKL:
    torch.manual_seed(seed)
    return full_autoencoder()


@pytest.mark.parametrize("layout", ["folder", "file", "original", "original, wrapped"])
def test_an_autoencoder_of_the_user_replaces_the_model_s(model: Path, tmp_path: Path, layout: str) -> None:
    vae = autoencoder(5)
    vae.save_pretrained(tmp_path / "vae")
    place = tmp_path / "vae" if layout == "folder" else tmp_path / "own.safetensors"
    if layout == "file":
        place.write_bytes((tmp_path / "vae" / FILE).read_bytes())
    elif layout != "folder":
        prefix = "first_stage_model." if "wrapped" in layout else ""
        content = {prefix + name: value.contiguous() for name, value in ldm.autoencoder(tmp_path / "vae").items()}
        save_file(content, place)
    name = f"{model}+vae={place}"
    assert inspect_model(name).problem is None
    same(ModelParts(describe(name)).vae, vae.state_dict())
    other, own = (ModelParts(describe(found)).fingerprints for found in (name, str(model)))
    assert other.autoencoder != own.autoencoder and other.unet == own.unet


def test_a_tiny_autoencoder_may_be_one_file(model: Path, tmp_path: Path) -> None:
    tiny = AutoencoderTiny()
    save_file(tiny.state_dict(), tmp_path / "taesd.safetensors")
    name = f"{model}+vae={tmp_path / 'taesd.safetensors'}"
    assert inspect_model(name).problem is None
    same(ModelParts(describe(name)).vae, tiny.state_dict())


def test_a_single_file_without_an_autoencoder_takes_one(model: Path, tmp_path: Path) -> None:
    path = write_single_file(model, tmp_path / "x.safetensors", "sd15")
    save_file({name: value for name, value in load_file(path).items() if not name.startswith("first_stage")}, path)
    assert "contains no autoencoder" in (inspect_model(str(path)).problem or "")
    assert "+vae=FILE, +taesd" in (inspect_model(str(path)).problem or "")
    vae = autoencoder(6)
    vae.save_pretrained(tmp_path / "vae")
    name = f"{path}+vae={tmp_path / 'vae'}"
    assert inspect_model(name).problem is None
    parts = ModelParts(describe(name))
    same(parts.vae, vae.state_dict())
    same(parts.unet, UNet2DConditionModel.from_pretrained(model / "unet").state_dict())


@pytest.mark.parametrize("entry", ["missing", "null"])
@pytest.mark.parametrize("layout", ["folder", "file", "tiny"])
def test_a_folder_without_an_autoencoder_takes_one(model: Path, tmp_path: Path, layout: str, entry: str) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(model, bare)
    shutil.rmtree(bare / "vae")
    index = json.loads((bare / "model_index.json").read_text())
    index.pop("vae")
    (bare / "model_index.json").write_text(json.dumps(index if entry == "missing" else {**index, "vae": [None, None]}))
    problem = inspect_model(str(bare)).problem or ""
    assert "bare: contains no autoencoder (vae/); add one by +vae=FILE, +taesd" in problem
    vae = AutoencoderTiny() if layout == "tiny" else autoencoder(6)
    vae.save_pretrained(tmp_path / "vae")
    place = tmp_path / "vae" / (FILE if layout == "file" else "")
    name = f"{bare}+vae={place}"
    assert inspect_model(name).problem is None
    parts = ModelParts(describe(name))
    same(parts.vae, vae.state_dict())
    same(parts.unet, UNet2DConditionModel.from_pretrained(model / "unet").state_dict())
    assert parts.fingerprints.autoencoder and parts.network_files


@pytest.mark.parametrize("layout", ["folder", "file", "original", "split"])
def test_a_unet_alone_replaces_the_model_s(model: Path, tmp_path: Path, layout: str) -> None:
    other = save_family(tmp_path / "other", "sd15", seed=9)
    place = other / "unet" if layout == "folder" else tmp_path / "own.safetensors"
    if layout == "file":
        place.write_bytes((other / "unet" / FILE).read_bytes())
    elif layout != "folder":
        prefix = "model.diffusion_model." if layout == "split" else ""
        save_file({prefix + name: value.contiguous() for name, value in ldm.unet(other / "unet").items()}, place)
    name = f"{model}+unet={place}"
    assert inspect_model(name).problem is None
    same(ModelParts(describe(name)).unet, UNet2DConditionModel.from_pretrained(other / "unet").state_dict())


@pytest.mark.parametrize("batched", [True, False])
def test_a_distilled_model_makes_its_trained_steps_below_the_strength(model: Path, batched: bool) -> None:
    pipeline = load(StreamSpec(f"{model}+timesteps=999,749,499,249", SIZE, SIZE, "eager", "float32"))
    patch = {"prompt": "ink", "steps": 4, "stream_batch.enabled": batched}
    for strength, timesteps in ((0.5, (499, 249)), (1.0, (999, 749, 499, 249))):
        settings = Settings().patched({**patch, "strength": strength})
        state, pipe = pipeline.open(settings), pipe_of(model, "sd15")
        (answer,) = pipeline.step([Entry(state, Frame(0, 0.0, PICTURES[0]), settings)])
        while state.in_flight:
            (answer,) = pipeline.step([Entry(state, None, settings)])
        assert answer.pixels is not None and state.previous_x0 is not None
        expected = denoised(pipe, plain(pipe, "ink", SIZE), settings, PICTURES[0], state.noise, timesteps=timesteps)
        torch.testing.assert_close(state.previous_x0[None], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("part", "content", "words"),
    [
        ("vae", "double_blocks.0.x", "contains no autoencoder; it is Flux"),
        ("unet", "lora_unet_x.lora_up.weight", "contains no UNet; it is a LoRA"),
        ("vae", "decoder.conv_in.weight", "weights and configuration differ"),
    ],
)
def test_what_is_no_such_part_is_named(model: Path, tmp_path: Path, part: str, content: str, words: str) -> None:
    save_file({content: torch.zeros(2, 2)}, tmp_path / "x.safetensors")
    assert words in (inspect_model(f"{model}+{part}={tmp_path / 'x.safetensors'}").problem or "")


def rewrite(path: Path, scaled: bool, dtype: torch.dtype) -> dict[str, Tensor]:
    """Turn the matrices of a file into fp8, and return the numbers that the file then holds."""
    content, meant = {}, {}
    for name, value in load_file(path).items():
        if value.ndim < 2:
            content[name] = meant[name] = value
            continue
        scale = value.abs().max() / 100 if scaled else torch.tensor(1.0)
        content[name] = (value / scale).to(dtype)
        meant[name] = content[name].float() * scale
        if scaled and name.endswith(".weight"):
            content[name.removesuffix("weight") + "scale_weight"] = scale.reshape(1)
            content[name.removesuffix("weight") + "scale_input"] = torch.ones(1)
    save_file({**content, **({"scaled_fp8": torch.zeros(2, dtype=dtype)} if scaled else {})}, path)
    return meant


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("scaled", [False, True])
def test_fp8_files_are_their_numbers_and_take_loras(model: Path, tmp_path: Path, scaled: bool, dtype: torch.dtype) -> None:
    meant = rewrite(model / "unet" / FILE, scaled, dtype)
    assert inspect_model(str(model)).problem is None
    same(ModelParts(describe(str(model))).unet, meant, 1e-6)
    generator = torch.Generator().manual_seed(1)
    factors = {QUERY: (torch.randn(2, 32, generator=generator), torch.randn(32, 2, generator=generator))}
    lora = save_lora(tmp_path / "x.safetensors", factors)
    parts = ModelParts(describe(f"{model}+{lora}:0.5"))
    plain = UNet2DConditionModel(**{**json.loads((model / "unet" / "config.json").read_text())})
    plain.load_state_dict(meant)
    pipe = pipe_of(model, "sd15", unet=plain)
    pipe.load_lora_weights(lora.parent, weight_name=lora.name)
    own = pipe_of(model, "sd15", unet=parts.unet.float())
    expected = latents(pipe, cross_attention_kwargs={"scale": 0.5})
    torch.testing.assert_close(latents(own), expected, rtol=1e-4, atol=1e-4)


def test_a_scale_without_its_tensor_is_refused(model: Path) -> None:
    path = model / "unet" / FILE
    rewrite(path, True, torch.float8_e4m3fn)
    save_file({**load_file(path), "nothing.scale_weight": torch.ones(1)}, path)
    with pytest.raises(ModelError, match=r"scales 'nothing.weight', which is not in the file"):
        ModelParts(describe(str(model)))


def test_a_picture_adapter_is_taken_as_it_is_downloaded(model: Path, tmp_path: Path) -> None:
    """Several files in one folder, one of them named, and the encoder in models/ beside, as in h94/IP-Adapter."""
    adapter = save_adapter(tmp_path / "models", "sd15")
    folder = tmp_path / "sdxl_models"
    folder.mkdir()
    for name in ("a_vit-h.safetensors", "b.safetensors"):
        (folder / name).write_bytes((adapter / "ip-adapter.safetensors").read_bytes())
    CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION, projection_dim=99)).save_pretrained(folder / "image_encoder")
    assert "has several files (a_vit-h.safetensors, b.safetensors); name one" in (
        inspect_model(f"{model}+picture={folder}").problem or ""
    )
    name = f"{model}+picture={folder / 'a_vit-h.safetensors'}"
    here = describe(name)
    there = describe(f"{model}+picture={adapter}")
    assert inspect_model(name).problem is None
    picture = np.random.default_rng(1).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    for ours, theirs in zip(ModelParts(here).encode_picture(picture), ModelParts(there).encode_picture(picture), strict=True):
        assert torch.equal(ours, theirs)
    (tmp_path / "models").rename(tmp_path / "elsewhere")
    assert "is for another picture encoder: it takes 24 numbers" in (inspect_model(name).problem or "")


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.parametrize("layout", ["diffusers", "original"])
def test_a_controlnet_may_be_one_file(tmp_path: Path, family: str, layout: str) -> None:
    base, folder = save_family(tmp_path / "base", family), save_control(tmp_path / "control", family)
    content = load_file(folder / FILE)
    if layout == "original":
        content = ldm.controlnet(folder)
    save_file({name: value.contiguous() for name, value in content.items()}, tmp_path / "x.safetensors")
    name = f"{base}+control={tmp_path / 'x.safetensors'}"
    assert inspect_model(name).problem is None
    same(ModelParts(describe(name)).controls[0], load_file(folder / FILE))


def test_what_is_no_controlnet_is_named(model: Path, tmp_path: Path) -> None:
    save_file({"lora_unet_x.lora_up.weight": torch.zeros(2, 2)}, tmp_path / "x.safetensors")
    problem = inspect_model(f"{model}+control={tmp_path / 'x.safetensors'}").problem or ""
    assert "contains no ControlNet; it is a LoRA" in problem
