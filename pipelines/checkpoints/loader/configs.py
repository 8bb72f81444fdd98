"""What is known of networks before there is one: what their configurations say, CLIP's vocabulary. Knows no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.values.models import ASSETS

MERGES = ASSETS / "layouts" / "merges.txt.gz"
"""Of CLIP's tokenizer; its vocabulary follows from them."""

RUNS = "Rill runs Stable Diffusion 1.5, 2 and XL, and models distilled from them"

AUTOENCODERS = ("CosineAutoencoder", "AutoencoderKL", "AutoencoderTiny")


def pools_text(unet_config: Mapping[str, Any]) -> bool:
    """Whether a UNet takes pooled text and time ids (SDXL)."""
    return unet_config.get("addition_embed_type") == "text_time"
