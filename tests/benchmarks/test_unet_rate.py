"""The UNet's time over its FLOPs at the rate of a matrix product."""

from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import unet_rate
from pipelines import StreamSpec, load


def test_flops_of_convolutions_and_products_count_both_operations() -> None:
    assert unet_rate.flops(nn.Linear(8, 5), [torch.zeros(3, 8)]) == 2 * 3 * 8 * 5
    convolution = nn.Conv2d(4, 6, 3, padding=1)
    assert unet_rate.flops(convolution, [torch.zeros(1, 4, 10, 10)]) == 2 * 9 * 4 * 6 * 100


def test_the_ratio_is_one_where_the_unet_is_as_fast_as_the_product() -> None:
    found = unet_rate.over(unet_s=0.5, unet_flops=1_000_000, product_s=1.0, side=100)
    assert found["unet_over_gemm"] == 1.0
    assert unet_rate.over(0.75, 1_000_000, 1.0, 100)["unet_over_gemm"] == 1.5
    assert unet_rate.over(0.5, 1_000_000, 2.0, 100)["unet_over_gemm"] == 0.5


def test_a_pipeline_is_measured(one_chunk_model: Path, graph_cache: Path) -> None:
    pipeline = load(StreamSpec(str(one_chunk_model), 128, 128, "openvino", "float32"), graph_cache, warm=False)
    found = unet_rate.measure(pipeline, rounds=2)
    assert all(value > 0 for value in found.values()) and set(found) == set(unet_rate.over(1, 1, 1))
    with pytest.raises(ValueError, match="int8"):
        unet_rate.hint("int8")
