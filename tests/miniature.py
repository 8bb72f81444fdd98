"""Miniature checkpoints in the published layouts, with random weights: seconds to save, milliseconds to run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, ControlNetModel, LCMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

EMBEDDING = 32
SECOND = 48  # width of SDXL's second text encoder
POOLED = 24
TOKENS = 8
ONE_CHUNK = 24
"""Positions of a text encoder, one for each letter, with which the default prompt of `Settings` is one chunk. A prompt of more
chunks takes graphs of its own, which every test of static graphs would build."""

SD15: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (32, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 2,
    "cross_attention_dim": EMBEDDING,
    "attention_head_dim": 2,
    "norm_num_groups": 8,
}
SD21 = {**SD15, "use_linear_projection": True, "attention_head_dim": (2, 4), "upcast_attention": True}
SDXL = {
    **SD21,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2),
    "cross_attention_dim": EMBEDDING + SECOND,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": POOLED + 6 * 8,
    "upcast_attention": None,
}
UNETS: dict[str, dict[str, Any]] = {
    "sd15": SD15,
    "sd21": SD21,
    "sdxl": SDXL,
    # One layer for each block and no middle block, as in SDXS.
    "sdxs": {**SD15, "layers_per_block": 1, "mid_block_type": None},
    "lcm": {**SD15, "time_cond_proj_dim": 16},
}
BETAS: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
"""The noise schedule of Stable Diffusion, as fields of a scheduler's configuration."""

FEWER_LAYERS: dict[str, dict[str, Any]] = {
    "sd15": {
        "layers_per_block": 1,
        "block_out_channels": (32,),
        "down_block_types": ("CrossAttnDownBlock2D",),
        "up_block_types": ("CrossAttnUpBlock2D",),
    },
    "sdxl": {"layers_per_block": 1, "transformer_layers_per_block": (1, 1)},
    "lcm": {"layers_per_block": 1},
}
FEWER_LAYERS["sdxs"] = FEWER_LAYERS["sd15"]


def fewer_layers(patch: pytest.MonkeyPatch, *families: str) -> None:
    """Make the UNets of these families, and what is saved for them, smaller. For tests that build static graphs: a conversion
    takes its time layer by layer."""
    for family in families:
        patch.setitem(UNETS, family, {**UNETS[family], **FEWER_LAYERS[family]})


PIPELINES = {"sdxl": "StableDiffusionXLPipeline", "lcm": "LatentConsistencyModelPipeline"}


def save_family(
    folder: Path,
    family: str,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    variant: str | None = None,
    shard: str | None = None,
    kl: bool = True,
    layers: int | None = None,
    tokens: int | None = None,
    **scheduler: Any,
) -> Path:
    """Save a whole checkpoint of sd15, sd21, sdxl, sdxs or lcm shape, in diffusers' layout.

    layers, tokens: of the text encoders. variant: fp16 adds this to the files' names. shard: the size above which the UNet is
    split into several files. kl: an AutoencoderKL.
    """
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(**UNETS[family]).to(dtype)
    if shard:
        unet.save_pretrained(folder / "unet", variant=variant, max_shard_size=shard)
    else:
        unet.save_pretrained(folder / "unet", variant=variant)
    vae = (full_autoencoder if kl else tiny_autoencoder)().to(dtype)
    if family == "sdxl" and kl:
        vae.register_to_config(scaling_factor=0.13025, force_upcast=True)
    vae.save_pretrained(folder / "vae", variant=variant)
    _save_text(folder, "", EMBEDDING, dtype, variant, layers, tokens)
    LCMScheduler(**scheduler).save_pretrained(folder / "scheduler")
    index: dict[str, Any] = {
        "_class_name": PIPELINES.get(family, "StableDiffusionPipeline"),
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", type(vae).__name__],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "LCMScheduler"],
        "safety_checker": [None, None],
    }
    if family == "sdxl":
        _save_text(folder, "_2", SECOND, dtype, variant, layers, tokens)
        index |= {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"], "tokenizer_2": index["tokenizer"]}
        index["force_zeros_for_empty_prompt"] = True
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def tiny_autoencoder() -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    )


def full_autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=64,
        force_upcast=False,
    )


def save_miniature(folder: Path, prediction: str = "epsilon", seed: int = 0, tokens: int | None = None) -> Path:
    """A Stable Diffusion 1.5-shaped checkpoint of some 200,000 parameters, factor 8, 4 latent channels. tokens: of the text
    encoder."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=EMBEDDING,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    unet.save_pretrained(folder / "unet")
    tiny_autoencoder().save_pretrained(folder / "vae")
    _save_text(folder, tokens=tokens)
    LCMScheduler(prediction_type=prediction).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionImg2ImgPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderTiny"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "LCMScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _save_text(
    folder: Path,
    suffix: str = "",
    width: int = EMBEDDING,
    dtype: torch.dtype = torch.float32,
    variant: str | None = None,
    layers: int | None = None,
    tokens: int | None = None,
) -> None:
    positions = tokens or TOKENS
    letters = list(bytes_to_unicode().values())
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        projection_dim=POOLED,
        intermediate_size=64,
        num_hidden_layers=layers or (2 if suffix else 1),
        num_attention_heads=2,
        max_position_embeddings=positions,
        bos_token_id=len(vocabulary) - 2,
        eos_token_id=len(vocabulary) - 1,
        pad_token_id=len(vocabulary) - 1,
    )
    cls = CLIPTextModelWithProjection if suffix else CLIPTextModel
    cls(config).to(dtype).save_pretrained(folder / f"text_encoder{suffix}", variant=variant)
    tokenizer = folder / f"tokenizer{suffix}"
    tokenizer.mkdir(parents=True, exist_ok=True)
    (tokenizer / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}))
    (tokenizer / "merges.txt").write_text("#version: 0.2\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": positions,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings))


def save_safety_checker(folder: Path, seed: int = 0, **thresholds: float) -> Path:
    """The published layout: safety_checker/ and feature_extractor/. concept, special: cosine from which a concept counts."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    torch.manual_seed(seed)
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
        "projection_dim": 16,
    }
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=16))
    checker.concept_embeds.data.normal_()
    checker.special_care_embeds.data.normal_()
    checker.concept_embeds_weights.data.fill_(thresholds.get("concept", 2.0))
    checker.special_care_embeds_weights.data.fill_(thresholds.get("special", 2.0))
    checker.save_pretrained(folder / "safety_checker")
    (folder / "feature_extractor").mkdir(parents=True, exist_ok=True)
    view = {"crop_size": 56, "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    (folder / "feature_extractor" / "preprocessor_config.json").write_text(json.dumps(view))
    return folder


def save_lora(path: Path, factors: dict[str, tuple[Tensor, Tensor]], alpha: float | None = None) -> Path:
    """Layer → (A [r, in], B [out, r]) in kohya's layout; the text encoder's begin with text_model. alpha: r if not given."""
    content: dict[str, Tensor] = {}
    for name, (a, b) in factors.items():
        flat = ("lora_te_" if name.startswith("text_model") else "lora_unet_") + name.replace(".", "_")
        scale = torch.tensor(float(a.shape[0]) if alpha is None else alpha)
        content |= {f"{flat}.lora_down.weight": a, f"{flat}.lora_up.weight": b, f"{flat}.alpha": scale}
    save_file(content, path)
    return path


SHARED = (
    "in_channels",
    "down_block_types",
    "block_out_channels",
    "layers_per_block",
    "cross_attention_dim",
    "attention_head_dim",
    "norm_num_groups",
    "use_linear_projection",
    "transformer_layers_per_block",
    "addition_embed_type",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
)


def save_control(folder: Path, family: str, seed: int = 5) -> Path:
    """Save a ControlNet for a family, with random closing convolutions instead of zeros, so its residuals are not zero."""
    torch.manual_seed(seed)
    config = {name: value for name, value in UNETS[family].items() if name in SHARED}
    control = ControlNetModel(**config, conditioning_embedding_out_channels=(8, 8, 8, 8))
    zeros = (control.controlnet_cond_embedding.conv_out, *control.controlnet_down_blocks, control.controlnet_mid_block)
    for convolution in zeros:
        torch.nn.init.normal_(convolution.weight, std=0.3)
    control.save_pretrained(folder)
    return folder


PICTURE_TOKENS = 4
PICTURE_SIDE = 56
PICTURE_WIDTH = 24


PICTURE_STATES = 32  # width of the picture encoder's hidden states


def _plain(width: int) -> dict[str, Tensor]:
    return {
        "proj.weight": torch.randn(PICTURE_TOKENS * width, PICTURE_WIDTH),
        "proj.bias": torch.randn(PICTURE_TOKENS * width),
        "norm.weight": torch.randn(width),
        "norm.bias": torch.randn(width),
    }


def _plus(width: int, tokens: int = 16, inner: int = 24, heads: int = 2) -> dict[str, Tensor]:
    """The perceiver resampler with its authors' names."""
    made = {"latents": torch.randn(1, tokens, inner), "proj_in.weight": torch.randn(inner, PICTURE_STATES) / 6}
    made |= {"proj_in.bias": torch.randn(inner), "proj_out.weight": torch.randn(width, inner) / 5}
    made |= {"proj_out.bias": torch.randn(width), "norm_out.weight": torch.randn(width), "norm_out.bias": torch.randn(width)}
    for layer in range(4):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            made |= {f"layers.{layer}.{norm}.{leaf}": torch.randn(inner) for leaf in ("weight", "bias")}
        shapes = {"0.to_q": (64 * heads, inner), "0.to_kv": (128 * heads, inner), "0.to_out": (inner, 64 * heads)}
        shapes |= {"1.1": (4 * inner, inner), "1.3": (inner, 4 * inner)}
        made |= {f"layers.{layer}.{name}.weight": torch.randn(shape) / 5 for name, shape in shapes.items()}
    return made


def _full(width: int) -> dict[str, Tensor]:
    side = PICTURE_STATES
    made = {"proj.0.weight": torch.randn(side, side) / 5, "proj.0.bias": torch.randn(side)}
    made |= {"proj.2.weight": torch.randn(width, side) / 5, "proj.2.bias": torch.randn(width)}
    return made | {"proj.3.weight": torch.randn(width), "proj.3.bias": torch.randn(width)}


def save_adapter(folder: Path, family: str, seed: int = 6, kind: str = "plain") -> Path:
    """Save an IP-Adapter for a family in the published layout, with its picture encoder. kind: plain, plus or full."""
    torch.manual_seed(seed)
    unet, width = UNet2DConditionModel(**UNETS[family]), UNETS[family]["cross_attention_dim"]
    made = {"plain": _plain, "plus": _plus, "full": _full}[kind](width)
    tensors = {f"image_proj.{name}": value for name, value in made.items()}
    for index, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            shape = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape
            tensors |= {f"ip_adapter.{index}.to_{side}_ip.weight": torch.randn(shape) for side in "kv"}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "ip-adapter.safetensors")
    config = CLIPVisionConfig(
        hidden_size=PICTURE_STATES,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=PICTURE_SIDE,
        patch_size=14,
        projection_dim=PICTURE_WIDTH,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder / "image_encoder")
    return folder
