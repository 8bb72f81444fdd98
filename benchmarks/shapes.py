"""Checkpoints of published shapes with random weights, in the diffusers layout: speed does not depend on the values.

SD-Turbo and SDXL-Turbo are the layouts in assets/layouts. SDXS follows its paper (arXiv 2403.16627): three levels,
one layer a block, no middle block, no attention at the top level. It was not compared with the published configuration file. Text
encoders have one layer, because they are not in the loop. Miniatures have the same blocks with fewer channels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SDXS = {
    "block_out_channels": [320, 640, 1280],
    "attention_head_dim": [5, 10, 20],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "mid_block_type": None,
}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {"sd-turbo": ("sd21", {}), "sdxs": ("sd21", SDXS), "sdxl-turbo": ("sdxl", {})}
"""Name → (layout, changed fields of its UNet's configuration)."""

MINIATURES: dict[str, tuple[str, dict[str, Any]]] = {
    "sd-mini": (
        "sd21",
        {"block_out_channels": [64, 128, 256, 256], "attention_head_dim": [1, 2, 4, 4], "upcast_attention": False},
    )
}
"""Stable Diffusion's blocks with a fifth of its channels: for pipelines on a CPU (benchmarks/stock_peers.py)."""

TINY_TEXT = {"text_encoder": 32, "text_encoder_2": 64}
TAESD_CHANNELS = 64


def save(folder: Path, shape: str, tiny: bool = False, full_autoencoder: bool = False) -> Path:
    """Write a checkpoint of a shape of SHAPES or MINIATURES, float16 (tiny: float32), with a tiny autoencoder or the full one."""
    import torch
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    from pipelines.checkpoints.loader import networks, vocabulary
    from pipelines.checkpoints.loader.single import LAYOUTS

    networks.quiet()
    name, other = (SHAPES | MINIATURES)[shape]
    layout = LAYOUTS[name]
    torch.manual_seed(0)
    dtype = torch.float32 if tiny else torch.float16
    config = {**_read(layout / "unet"), **other}
    texts = {part: _text(_read(layout / part), part, tiny) for part in TINY_TEXT if (layout / part).is_dir()}
    if tiny:
        config |= _narrow(config, sum(text["hidden_size"] for text in texts.values()))
    if "text_encoder_2" in texts:
        pooled = texts["text_encoder_2"]["projection_dim"]
        config["projection_class_embeddings_input_dim"] = pooled + 6 * config["addition_time_embed_dim"]
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")
        if full_autoencoder:
            vae = {**_read(layout / "vae"), **({"block_out_channels": [32, 32, 32, 32]} if tiny else {})}
            AutoencoderKL.from_config(vae).save_pretrained(folder / "vae")
        else:
            channels = (8 if tiny else TAESD_CHANNELS,) * 4
            kind = AutoencoderTiny(encoder_block_out_channels=channels, decoder_block_out_channels=channels)
            kind.save_pretrained(folder / "vae")
        for part, text in texts.items():
            cls = CLIPTextModelWithProjection if part.endswith("_2") else CLIPTextModel
            cls(CLIPTextConfig(**text)).save_pretrained(folder / part)
            tokenizer = vocabulary.tokenizer(layout, text["max_position_embeddings"], "!")
            tokenizer.save_pretrained(folder / part.replace("text_encoder", "tokenizer"))
    finally:
        torch.set_default_dtype(before)
    _save_index(folder, layout, texts, "AutoencoderKL" if full_autoencoder else "AutoencoderTiny")
    return folder


def _save_index(folder: Path, layout: Path, texts: dict[str, Any], autoencoder: str) -> None:
    scheduler = _read(layout / "scheduler", "scheduler_config.json") | {"prediction_type": "epsilon"}
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    index: dict[str, object] = {
        "_class_name": "StableDiffusionXLPipeline" if len(texts) == 2 else "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", autoencoder],
        "scheduler": ["diffusers", scheduler.get("_class_name", "DDIMScheduler")],
    }
    for part in texts:
        index[part] = ["transformers", "CLIPTextModelWithProjection" if part.endswith("_2") else "CLIPTextModel"]
        index[part.replace("text_encoder", "tokenizer")] = ["transformers", "CLIPTokenizer"]
    (folder / "model_index.json").write_text(json.dumps(index))


def _read(folder: Path, name: str = "config.json") -> dict[str, Any]:
    return dict(json.loads((folder / name).read_text(encoding="utf-8")))


def _text(config: dict[str, Any], part: str, tiny: bool) -> dict[str, Any]:
    config["num_hidden_layers"] = 1
    if tiny:
        width = TINY_TEXT[part]
        config |= {"hidden_size": width, "intermediate_size": width, "num_attention_heads": 2, "projection_dim": width}
    return config


def _narrow(config: dict[str, Any], text_width: int) -> dict[str, Any]:
    """A UNet's configuration with a tenth of its channels."""
    count = len(config["block_out_channels"])
    narrow: dict[str, Any] = {
        "block_out_channels": [32, 64, 64, 64][:count],
        "attention_head_dim": [1, 2, 2, 2][:count],  # the number of heads, despite the name
        "cross_attention_dim": text_width,
    }
    if "transformer_layers_per_block" in config:
        narrow |= {"transformer_layers_per_block": [1] * count, "addition_time_embed_dim": 8}
    return narrow
