"""A picture as CLIP's encoders take it, against the image processor of transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from pipelines.checkpoints.loader.clip_view import view


@pytest.mark.parametrize("size", [(64, 64), (300, 201), (97, 333), (225, 1000), (1001, 226), (56, 56), (5, 40)])
@pytest.mark.parametrize("side", [56, 224])
def test_a_picture_is_seen_as_by_clip_s_own_processor(size: tuple[int, int], side: int) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    expected = torch.as_tensor(np.asarray(processor(picture, return_tensors="np")["pixel_values"]))[0]
    torch.testing.assert_close(view(picture, side), expected, rtol=1e-4, atol=1e-4)
