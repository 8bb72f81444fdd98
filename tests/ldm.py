"""Converts a checkpoint folder in the diffusers layout to one file in the original layout: the inverse of the loader.

Written from the published names of CompVis' and Stability's code, independently of diffusers' conversion.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
HEAD = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def write_single_file(folder: Path, path: Path, family: str, metadata: dict[str, str] | None = None) -> Path:
    """family: sd15, sd21 or sdxl."""
    content = {f"model.diffusion_model.{name}": value for name, value in unet(folder / "unet").items()}
    content |= {f"first_stage_model.{name}": value for name, value in autoencoder(folder / "vae").items()}
    first = clip(folder / "text_encoder")
    if family == "sd21":
        content |= {f"cond_stage_model.model.{name}": value for name, value in open_clip(first).items()}
    elif family == "sd15":
        content |= {f"cond_stage_model.transformer.text_model.{name}": value for name, value in first.items()}
    else:
        content |= {f"conditioner.embedders.0.transformer.text_model.{name}": value for name, value in first.items()}
        second = open_clip(clip(folder / "text_encoder_2"))
        content |= {f"conditioner.embedders.1.model.{name}": value for name, value in second.items()}
    save_file({name: value.contiguous() for name, value in content.items()}, path, metadata=metadata)
    return path


def tensors(folder: Path) -> dict[str, Tensor]:
    return load_file(next(folder.glob("*.safetensors")))


def unet(folder: Path) -> dict[str, Tensor]:
    config = json.loads((folder / "config.json").read_text())
    layers = config["layers_per_block"]
    attends = ["CrossAttn" in kind for kind in config["up_block_types"]]
    return {_unet_name(name, layers, attends): value for name, value in tensors(folder).items()}


def _unet_name(name: str, layers: int, attends: list[bool]) -> str:
    head, _, leaf = name.rpartition(".")
    if head in HEAD:
        return f"{HEAD[head]}.{leaf}"
    where, *rest = name.split(".")
    if where == "mid_block":
        kind, number, *inner = rest
        place = f"middle_block.{1 if kind == 'attentions' else 2 * int(number)}"
        return f"{place}.{_inner(kind, inner)}"
    block, kind, number, *inner = rest
    step = (layers + 1) * int(block)
    if where == "down_blocks":
        if kind == "downsamplers":
            return f"input_blocks.{step + layers + 1}.0.op.{inner[-1]}"
        return f"input_blocks.{step + int(number) + 1}.{int(kind == 'attentions')}.{_inner(kind, inner)}"
    if kind == "upsamplers":
        return f"output_blocks.{step + layers}.{1 + attends[int(block)]}.conv.{inner[-1]}"
    return f"output_blocks.{step + int(number)}.{int(kind == 'attentions')}.{_inner(kind, inner)}"


def _inner(kind: str, inner: list[str]) -> str:
    if kind == "attentions":
        return ".".join(inner)
    return f"{RESNET[inner[0]]}.{inner[1]}"


def controlnet(folder: Path) -> dict[str, Tensor]:
    """A ControlNet in its authors' layout: the UNet's encoder, the map's layers, and the closing convolutions."""
    config = json.loads((folder / "config.json").read_text())
    content = {}
    for name, value in tensors(folder).items():
        if name.startswith("controlnet_cond_embedding."):
            layer = name.removeprefix("controlnet_cond_embedding.")
            count = 2 * len(config["conditioning_embedding_out_channels"]) - 1
            number = 0 if layer.startswith("conv_in") else count if layer.startswith("conv_out") else int(layer.split(".")[1]) + 1
            content[f"input_hint_block.{2 * number}.{name.rpartition('.')[2]}"] = value
        elif name.startswith("controlnet_down_blocks."):
            content[f"zero_convs.{name.split('.')[1]}.0.{name.rpartition('.')[2]}"] = value
        elif name.startswith("controlnet_mid_block."):
            content[f"middle_block_out.0.{name.rpartition('.')[2]}"] = value
        else:
            content[_unet_name(name, config["layers_per_block"], [])] = value
    return {f"control_model.{name}": value for name, value in content.items()}


def autoencoder(folder: Path) -> dict[str, Tensor]:
    blocks = len(json.loads((folder / "config.json").read_text())["block_out_channels"])
    content = {}
    for name, value in tensors(folder).items():
        parts = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out").split(".")
        if len(parts) > 2 and parts[1] == "mid_block" and parts[2] == "attentions":
            inner = ".".join(parts[4:-1])
            is_matrix = inner != "group_norm" and parts[-1] == "weight"
            content[f"{parts[0]}.mid.attn_1.{ATTENTION[inner]}.{parts[-1]}"] = value[:, :, None, None] if is_matrix else value
            continue
        if len(parts) > 2 and parts[1] == "mid_block":
            parts[1:4] = ["mid", f"block_{int(parts[3]) + 1}"]
        elif len(parts) > 2 and parts[1] in ("down_blocks", "up_blocks"):
            side = parts[1].removesuffix("_blocks")
            level = int(parts[2]) if side == "down" else blocks - 1 - int(parts[2])
            rest = ["block", *parts[4:]] if parts[3] == "resnets" else [f"{side}sample", *parts[5:]]
            parts[1:] = [side, str(level), *rest]
        content[".".join(parts)] = value
    return content


def clip(folder: Path) -> dict[str, Tensor]:
    return {name.removeprefix("text_model."): value for name, value in tensors(folder).items()}


def open_clip(encoder: dict[str, Tensor]) -> dict[str, Tensor]:
    content: dict[str, Tensor] = {}
    for name, value in encoder.items():
        if name.startswith("encoder.layers."):
            number, _, inner = name.removeprefix("encoder.layers.").partition(".")
            block = f"transformer.resblocks.{number}"
            if inner.startswith("self_attn.") and "out_proj" not in inner:
                leaf = inner.rpartition(".")[2]
                joined = [encoder[f"encoder.layers.{number}.self_attn.{side}_proj.{leaf}"] for side in "qkv"]
                content[f"{block}.attn.in_proj_{leaf}"] = torch.cat(joined)
                continue
            head, _, leaf = inner.rpartition(".")
            content[f"{block}.{OPEN_CLIP[head]}.{leaf}"] = value
        elif name == "text_projection.weight":
            content["text_projection"] = value.T
        elif name == "embeddings.position_embedding.weight":
            content["positional_embedding"] = value
        else:
            content[name.replace("embeddings.", "").replace("final_layer_norm", "ln_final")] = value
    return content
