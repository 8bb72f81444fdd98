"""Refusals say what a file or a folder is, and what would work: models of other kinds as diffusers saves them, in miniature."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from pipelines import ModelError, ModelParts, describe, inspect_model, load
from pipelines.values.types import StreamSpec
from tests.miniature import SD15, save_control, save_family
from tests.pipelines.checkpoints.configs import edit

SMALL = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "patch_size": 1}
NETWORKS: dict[str, tuple[str, dict[str, Any], str]] = {
    "SD3": (
        "SD3Transformer2DModel",
        {**SMALL, "joint_attention_dim": 32, "caption_projection_dim": 32, "pooled_projection_dim": 16},
        "Stable Diffusion 3",
    ),
    "Flux": (
        "FluxTransformer2DModel",
        {**SMALL, "num_single_layers": 1, "joint_attention_dim": 32, "pooled_projection_dim": 16, "axes_dims_rope": (4, 4, 8)},
        "Flux",
    ),
    "Qwen-Image": (
        "QwenImageTransformer2DModel",
        {**SMALL, "joint_attention_dim": 32, "axes_dims_rope": (4, 4, 8)},
        "Qwen-Image",
    ),
    "Z-Image": (
        "ZImageTransformer2DModel",
        {"dim": 32, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 16}
        | {"axes_dims": (4, 4, 8), "in_channels": 4},
        "Z-Image",
    ),
    "Sana": (
        "SanaTransformer2DModel",
        {
            **SMALL,
            "num_cross_attention_heads": 2,
            "cross_attention_head_dim": 16,
            "cross_attention_dim": 32,
            "caption_channels": 8,
        },
        "PixArt or Sana",
    ),
    "PixArt": ("PixArtTransformer2DModel", {**SMALL, "cross_attention_dim": 32, "caption_channels": 8}, "PixArt or Sana"),
    "a UNet": ("UNet2DConditionModel", SD15, "a UNet alone, without text encoder and autoencoder"),
    "an autoencoder": (
        "AutoencoderKL",
        {"block_out_channels": (8,), "norm_num_groups": 4},
        "an autoencoder alone",
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_single_file_of_another_kind_is_named(tmp_path: Path, name: str) -> None:
    kind, config, words = NETWORKS[name]
    network = getattr(diffusers, kind)(**config)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, tmp_path / "x.safetensors")
    problem = inspect_model(str(tmp_path / "x.safetensors")).problem or ""
    assert problem.startswith("x.safetensors: is not a whole Stable Diffusion") and f"it is {words}; " in problem


ORIGINAL = {
    "Flux": ["double_blocks.0.img_attn.norm.key_norm.scale", "model.diffusion_model.double_blocks.0.img_attn.qkv.weight"],
    "Stable Diffusion 3": ["model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias"],
    "the SDXL refiner": ["conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias"],
    "quantised to 4 bits by bitsandbytes": ["unet.x.weight.quant_state.bitsandbytes__nf4", "double_blocks.0.x"],
    "an AnimateDiff motion module": ["down_blocks.0.motion_modules.0.temporal_transformer.norm.bias"],
    "a ControlNet": ["control_model.zero_convs.0.0.weight", "control_model.input_hint_block.0.bias"],
    "an IP-Adapter": ["image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"],
    "a LoRA": ["lora_unet_down_blocks_0.lora_down.weight"],
    "of no known layout": ["anything"],
}


@pytest.mark.parametrize("words", ORIGINAL)
def test_names_of_other_programs_are_named_too(tmp_path: Path, words: str) -> None:
    save_file({name: torch.zeros(2, 2, 2, 2) for name in ORIGINAL[words]}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=f"it is {words}; "):
        ModelParts(describe(str(tmp_path / "x.safetensors")))


INDEXES: dict[str, tuple[dict[str, Any], str]] = {
    "SD3": ({"_class_name": "StableDiffusion3Pipeline", "transformer": ["diffusers", "X"]}, "is Stable Diffusion 3"),
    "Flux": ({"_class_name": "FluxKontextPipeline"}, r"is Flux \(FluxKontextPipeline\); Rill runs"),
    "Z-Image": ({"_class_name": "ZImagePipeline"}, "is Z-Image"),
    "Qwen": ({"_class_name": "QwenImageEditPipeline"}, "is Qwen-Image"),
    "Sana": ({"_class_name": "SanaSprintPipeline"}, "is Sana"),
    "PixArt": ({"_class_name": "PixArtSigmaPipeline"}, "is PixArt"),
    "Kandinsky": ({"_class_name": "KandinskyV22Pipeline", "unet": ["diffusers", "UNet2DConditionModel"]}, "is Kandinsky"),
    "unknown": ({"_class_name": "NewPipeline", "transformer": ["diffusers", "X"]}, "is a NewPipeline with a transformer"),
    "refiner": (
        {
            "_class_name": "StableDiffusionXLImg2ImgPipeline",
            "text_encoder": [None, None],
            "text_encoder_2": ["transformers", "C"],
        },
        "is the SDXL refiner",
    ),
    "OpenVINO": ({"_class_name": "OVStableDiffusionPipeline"}, "is an OpenVINO export"),
    "OpenVINO's parts": ({"_class_name": "X", "unet": ["optimum", "OVModelUnet"]}, "is an OpenVINO export"),
    "ONNX": ({"_class_name": "OnnxStableDiffusionPipeline"}, "is an ONNX export"),
}


@pytest.mark.parametrize("name", INDEXES)
def test_a_folder_of_another_kind_is_named(tmp_path: Path, name: str) -> None:
    index, words = INDEXES[name]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=words):
        ModelParts(describe(str(tmp_path)))


def test_an_openvino_export_is_known_by_its_files(tmp_path: Path) -> None:
    folder = save_family(tmp_path / "x", "sd15")
    (folder / "unet" / "openvino_model.xml").write_text("<net/>")
    assert "is an OpenVINO export" in (inspect_model(str(folder)).problem or "")


def test_a_folder_without_an_index_is_named(tmp_path: Path) -> None:
    whole = save_family(tmp_path / "whole", "sd15")
    save_control(tmp_path / "control", "sd15")
    (tmp_path / "lora").mkdir()
    save_file({"x": torch.zeros(1)}, tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    (tmp_path / "file").mkdir()
    save_file({"x": torch.zeros(1)}, tmp_path / "file" / "style.safetensors")
    cases = {
        whole / "unet": "UNet2DConditionModel, alone; name the folder above",
        tmp_path / "control": "it is a ControlNet; add",
    }
    cases |= {tmp_path / "lora": "it is a LoRA; add", tmp_path / "file": "it holds style.safetensors; name that file"}
    for folder, words in cases.items():
        assert words in (inspect_model(str(folder)).problem or ""), folder


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", b"x")


STARTS: dict[str, tuple[bytes | None, str]] = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n", "a Git LFS pointer"),
    "html": (b"\n<!DOCTYPE html><html><head></head></html>", "an HTML page"),
    "error": (b'{"error": "gated"}', "a JSON text"),
    "zip": (None, "a zip archive"),
    "pickle": (b"\x80\x02}q\x00.                ", "a pickle"),
    "gguf": (b"GGUF\x03\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00", "a GGUF file"),
    "empty": (b"", "empty: download"),
}


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("where", ["file", "lora", "unet", "vae"])
def test_files_under_a_false_name_are_named(tmp_path: Path, name: str, where: str) -> None:
    content, words = STARTS[name]
    model = save_family(tmp_path / "model", "sd15")
    path = tmp_path / "x.safetensors" if where in ("file", "lora") else model / where / "diffusion_pytorch_model.safetensors"
    zipped(path) if content is None else path.write_bytes(content)
    given = {"file": str(path), "lora": f"{model}+{path}"}.get(where, str(model))
    assert f"{path.name}: is {words}" in (inspect_model(given).problem or "")


def test_a_configuration_that_is_a_pointer_is_named(tmp_path: Path) -> None:
    folder = save_family(tmp_path / "x", "sd15")
    (folder / "unet" / "config.json").write_bytes(STARTS["lfs"][0] or b"")
    assert "x/unet/config.json: is not readable JSON: it is a Git LFS pointer" in (inspect_model(str(folder)).problem or "")


UNETS: dict[str, tuple[dict[str, object], str]] = {
    "class_embed_type": ({"class_embed_type": "timestep"}, "class_embed_type = 'timestep' is not supported"),
    "num_class_embeds": ({"num_class_embeds": 10}, "num_class_embeds = 10"),
    "blocks": ({"down_block_types": ["CrossAttnDownBlock2D", "AttnDownBlock2D"]}, "down_block_types has 'AttnDownBlock2D'"),
    "middle": ({"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}, "mid_block_type has"),
    "widths": ({"cross_attention_dim": [32, 32]}, r"cross_attention_dim = \[32, 32\] is not supported"),
    "outputs": ({"out_channels": 8}, "takes 4 channels and makes 8"),
    "depth": ({"in_channels": 5}, "it is a depth model"),
    "gligen": ({"attention_type": "gated"}, "attention_type = 'gated'"),
    "kandinsky": ({"encoder_hid_dim_type": "image_proj"}, "encoder_hid_dim_type = 'image_proj'"),
    "bnb": ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "is quantised to 4 bits by bitsand"),
}


@pytest.mark.parametrize("name", UNETS)
def test_a_unet_that_the_passes_do_not_compute_is_refused_before_it_is_built(tmp_path: Path, name: str) -> None:
    folder = save_family(tmp_path / "x", "sd15")
    edit(folder / "unet" / "config.json", **UNETS[name][0])
    assert inspect_model(str(folder)).problem is not None
    with pytest.raises(ModelError, match=UNETS[name][1]):
        load(StreamSpec(str(folder), 128, 128, "eager", "float32"), warm=False)


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    folder = save_family(tmp_path / "x", "sd15")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: value.to(torch.int8) for name, value in load_file(path).items()}, path)
    assert "x/unet: is quantised: " in (inspect_model(str(folder)).problem or "")


def test_an_autoencoder_of_another_factor_is_refused(tmp_path: Path) -> None:
    folder = save_family(tmp_path / "x", "sd15")
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    AutoencoderKL(**blocks, block_out_channels=(8, 8, 8), norm_num_groups=4).save_pretrained(folder / "vae")
    assert "has 4x4 pixels; supported is 8x8" in (inspect_model(str(folder)).problem or "")


@pytest.mark.parametrize(("size", "shown"), [([12, 16], "128x96"), ([16, 16], 128), (16, 128)])
def test_a_list_of_sizes_is_shown(tmp_path: Path, size: object, shown: object) -> None:
    folder = save_family(tmp_path / "x", "sd15")
    edit(folder / "unet" / "config.json", sample_size=size)
    report = inspect_model(str(folder))
    assert report.problem is None and report.facts["native_size"] == shown


def test_check_finds_what_does_not_fit_without_reading_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.checkpoints.loader import networks

    sd15, sdxl = save_family(tmp_path / "sd15", "sd15"), save_family(tmp_path / "sdxl", "sdxl")
    control = save_control(tmp_path / "control", "sd15")
    weights = control / "diffusion_pytorch_model.safetensors"
    save_file({name: value for name, value in load_file(weights).items() if name != "conv_in.bias"}, weights)
    text = "lora_te_text_model_encoder_layers_7_self_attn_q_proj"
    save_file({f"{text}.lora_{side}.weight": torch.zeros(2, 2) for side in ("down", "up")}, tmp_path / "text.safetensors")
    unet = UNet2DConditionModel.from_pretrained(sdxl / "unet")
    layer = next(name for name, _ in unet.named_modules() if name.endswith("transformer_blocks.1.attn2.to_k"))
    shapes = {"A": (2, 80), "B": (32, 2)}
    factors = {f"unet.{layer}.lora_{side}.weight": torch.zeros(shape) for side, shape in shapes.items()}
    save_file(factors, tmp_path / "sdxl.safetensors")
    (sdxl / "text_encoder_2" / "model.safetensors").write_bytes((sdxl / "text_encoder" / "model.safetensors").read_bytes())

    def unread(*given: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(networks, "read", unread)
    for name, words in {
        f"{sd15}+{tmp_path / 'text.safetensors'}": "this text_encoder has no layer",
        f"{sd15}+{tmp_path / 'sdxl.safetensors'}": "this unet has no layer",
        f"{sd15}+control={control}": "missing conv_in.bias",
        str(sdxl): "sdxl/text_encoder_2: weights and configuration differ",
    }.items():
        assert words in (inspect_model(name).problem or ""), name
