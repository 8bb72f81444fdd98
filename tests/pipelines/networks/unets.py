"""Miniature UNets of every shape the studio loads, and their inputs."""

from functools import cache

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from pipelines.networks import latent_gate, position_bias
from pipelines.networks.modulation import ModulationPass

COMMON = {"in_channels": 4, "out_channels": 4, "norm_num_groups": 4, "cross_attention_dim": 24}


MODELS = {
    # Four blocks of two layers, attention in all but the deepest, heads as a number of heads.
    "sd15": {"block_out_channels": (8, 16, 24, 24), "attention_head_dim": 4, **COMMON},
    # Heads per block, linear projections, an output that is not epsilon alone.
    "sd21": {
        "block_out_channels": (8, 16, 24, 24),
        "attention_head_dim": [2, 4, 6, 6],
        "use_linear_projection": True,
        "upcast_attention": True,
        **COMMON,
    },
    "sdxl": {
        "block_out_channels": (8, 16, 24),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, 2, 3],
        "attention_head_dim": [2, 4, 6],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 20,
        **COMMON,
    },
    # No mid block, a different number of layers per block.
    "sdxs": {
        "block_out_channels": (8, 16, 24),
        "layers_per_block": (1, 2, 3),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "mid_block_type": None,
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
        **COMMON,
    },
    # One layer per block, attention in the middle only.
    "pocket": {
        "block_out_channels": (8, 16, 24),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "mid_block_type": "UNetMidBlock2D",
        "attention_head_dim": 4,
        **COMMON,
    },
    # The prompt embedding, pooled by attention, joins the timestep and scales the normalisations.
    "pooled-prompt": {
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 4,
        "resnet_time_scale_shift": "scale_shift",
        **COMMON,
    },
    "lcm": {
        "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 4,
        "time_cond_proj_dim": 32,
        **COMMON,
    },
    "lcm-xl": {
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 20,
        "time_cond_proj_dim": 32,
        **COMMON,
    },
}


MODELS["placed"] = MODELS["pooled-prompt"]
"""As the shipped model: some convolutions know their place in the frame."""

MODELS["gated"] = MODELS["pooled-prompt"]
"""As the shipped model: the output is mixed with the latent."""


@cache
def unet(name: str) -> UNet2DConditionModel:
    torch.manual_seed(0)
    made = UNet2DConditionModel(**MODELS[name]).eval()
    if name == "placed":
        position_bias.add(made, {"conv_in": 8, "down_blocks.0.downsamplers.0.conv": 4, "up_blocks.0.upsamplers.0.conv": 8})
        for parameter_name, parameter in made.named_parameters():
            if parameter_name.endswith(position_bias.NAME):
                nn.init.normal_(parameter, std=0.1)
    if name == "gated":
        latent_gate.add(made)
        for parameter in made.latent_gate.parameters():
            nn.init.normal_(parameter, std=0.2)
    return made.requires_grad_(False)


def inputs(name: str, rows: int = 3, size: tuple[int, int] = (24, 16), seed: int = 1) -> tuple[Tensor, ...]:
    """x, t (different in each row), emb and the model's other inputs."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 4, *size, generator=g)
    t = torch.tensor([999, 1, 400, 750])[:rows]
    added: list[Tensor] = []
    if "addition_time_embed_dim" in MODELS[name]:
        added += [torch.randn(rows, 20, generator=g), torch.randint(0, 1024, (rows, 6), generator=g).float()]
    if "time_cond_proj_dim" in MODELS[name]:
        added.append(torch.randn(rows, 32, generator=g))
    return x, t, torch.randn(rows, 7, 24, generator=g), *added


def diffusers_forward(name: str, x: Tensor, t: Tensor, emb: Tensor, *added: Tensor) -> Tensor:
    pooled_time = {}
    if "addition_time_embed_dim" in MODELS[name]:
        pooled_time = {"text_embeds": added[0], "time_ids": added[1]}
    w = added[-1] if "time_cond_proj_dim" in MODELS[name] and len(added) % 2 else None
    return unet(name)(x, t, emb, timestep_cond=w, added_cond_kwargs=pooled_time).sample


def with_modulation(name: str, x: Tensor, t: Tensor, emb: Tensor, *added: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same as the passes take it: x, modulation, emb."""
    return x, ModulationPass(unet(name))(t, emb, *added)[0], emb
