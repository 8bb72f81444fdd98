"""Builds the untrained parts of the pocket model: tokenizer, text encoder, UNet and scheduler.

All are stock classes, except for convolutions with a position bias and the latent's gate (pipelines.networks).
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import torch
from diffusers import LCMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pipelines.networks import latent_gate, position_bias
from training.words import vocabulary_words

VOCABULARY = 2048  # ids; those beyond the tokenizer's tokens are spare
CONTEXT = 24  # tokens of a prompt, start and end included
WIDTH = 128  # of a text embedding
TIMESTEPS = 1000
SNR_FACTOR = 3.0
TIMESTEP_POWER = 3.0
"""Timesteps fall with this power (pipelines/techniques/schedule.py). A later step must redraw what it noises again: experiments
20 and 21 in docs/experiments/pocket-9-to-11.md."""

PLACES = {
    "conv_in": 32,
    **{f"down_blocks.{k}.downsamplers.0.conv": side for k, side in enumerate((32, 16, 8))},
    **{f"up_blocks.{k}.upsamplers.0.conv": side for k, side in enumerate((16, 32, 32))},
}
"""Convolutions of the UNet with a position bias, one for each level and direction, and the side of its map."""
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_alphabet() -> list[str]:
    """The 256 printable stand-ins for bytes of GPT-2's byte-level BPE, in byte order."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def merges(words: list[str], alphabet: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent pair first, until every word is one token (Sennrich et al. 2016).

    A word's last symbol carries `</w>`, as in CLIP. Ties are broken alphabetically, so the result is deterministic.
    """
    pieces = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    found: list[tuple[str, str]] = []
    while True:
        pairs = Counter(pair for split in pieces.values() for pair in pairwise(split))
        if not pairs:
            return found
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(best)
        for word, split in pieces.items():
            pieces[word] = _merge(split, best)


def _merge(split: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for symbol in split:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


def build_tokenizer() -> CLIPTokenizer:
    """A CLIPTokenizer in whose vocabulary every word of `words.vocabulary_words` is one token."""
    alphabet = byte_alphabet()
    rules = merges([word for word in vocabulary_words() if not word.isdigit()], alphabet)
    tokens = [*alphabet, *(symbol + "</w>" for symbol in alphabet), *dict.fromkeys(a + b for a, b in rules)]
    tokens = list(dict.fromkeys(tokens))
    vocabulary = {token: index for index, token in enumerate([*tokens, START, END])}
    if len(vocabulary) > VOCABULARY:
        raise ValueError(f"{len(vocabulary)} tokens do not fit into {VOCABULARY}")
    return CLIPTokenizer(
        vocab=vocabulary, merges=rules, unk_token=END, bos_token=START, eos_token=END, pad_token=END,
        model_max_length=CONTEXT,
    )  # fmt: skip


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Two layers, width 128: 0.66 M parameters, of which the embedding table is 0.26 M."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=CONTEXT, projection_dim=WIDTH, hidden_act="gelu", bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def build_unet(latent_channels: int) -> UNet2DConditionModel:
    """Four levels 64/128/192/256, one layer per block, 17.8 M parameters.

    The prompt enters twice: pooled (`addition_embed_type="text"`) into the scale and shift of every normalisation, which
    reaches the top level where lines are drawn, and by cross-attention at the lowest level. Attention at the lowest two
    levels, as in the first experiment, took 19.9 ms against 15.3 ms (512x512, bf16, two busy cores).
    """
    unet = UNet2DConditionModel(
        sample_size=64, in_channels=latent_channels, out_channels=latent_channels,
        layers_per_block=1, block_out_channels=(64, 128, 192, 256),
        down_block_types=("DownBlock2D", "DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2D",
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH, attention_head_dim=8, norm_num_groups=32, addition_embed_type="text",
        addition_embed_type_num_heads=8, resnet_time_scale_shift="scale_shift",
    )  # fmt: skip
    latent_gate.add(unet)
    position_bias.add(unet, PLACES)
    for name in PLACES:  # not zeros: until places differ, the borders are the easier way to find one's own, at one size
        torch.nn.init.normal_(unet.get_parameter(name + position_bias.NAME), std=0.02)
    return unet


def alphas_cumprod() -> torch.Tensor:
    """ᾱ of the T = 1000 timesteps, float64: the squared cosine (Nichol & Dhariwal 2021), its signal-to-noise ratio times 3.

    Half-way, at strength 0.5, the squared cosine has as much noise as signal. With many latent channels, which are hardly
    redundant, that leaves little of a face; here it is 0.87 of signal to 0.5 of noise (shifted schedules: Hoogeboom et al.
    2023, arXiv 2301.11093).
    """
    place = (torch.arange(TIMESTEPS + 1, dtype=torch.float64) / TIMESTEPS + 0.008) / 1.008
    bar = torch.cos(place * math.pi / 2) ** 2
    betas = (1 - bar[1:] / bar[:-1]).clamp(max=0.999)
    plain = torch.cumprod(1 - betas, 0)
    return SNR_FACTOR * plain / (1 + (SNR_FACTOR - 1) * plain)


def build_scheduler() -> LCMScheduler:
    """The network returns the clean latent ("sample"), on the schedule of `alphas_cumprod`.

    `timestep_scaling` only shapes LCM's boundary condition c_skip, c_out; at t >= 10 it is within 1e-4 of plain prediction.
    """
    bar = alphas_cumprod()
    betas = 1 - bar / torch.cat([torch.ones(1, dtype=torch.float64), bar[:-1]])
    scheduler = LCMScheduler(
        num_train_timesteps=TIMESTEPS, trained_betas=betas.tolist(), prediction_type="sample", clip_sample=False,
        set_alpha_to_one=True, steps_offset=1, original_inference_steps=50,
    )  # fmt: skip
    scheduler.register_to_config(timestep_power=TIMESTEP_POWER)
    return scheduler


def tokenize(tokenizer: Any, prompts: list[str]) -> torch.Tensor:
    """Token ids (N, 24), padded and cut."""
    encoded = tokenizer(prompts, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt")
    ids: torch.Tensor = encoded.input_ids
    return ids
