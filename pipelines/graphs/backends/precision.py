"""Whether bfloat16 pays on this processor: measured, since having the instructions does not prove it.

A Xeon whose virtual machine hides AMX has AVX512-BF16 left, and takes 1.6 to 1.8 times as long in it as in float32. So a few
convolutions are timed in both, in turn, once a process, and the fastest run of each counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F

CHANNELS, SIDE = 64, 64  # of the convolutions, the size of pocket's widest
ROUNDS = 12


def gain(single: Callable[[], object], half: Callable[[], object], rounds: int = ROUNDS) -> float:
    """How many times as fast as `single` `half` is: the fastest of `rounds` calls of each, in turn, after two to warm up."""
    best = {single: float("inf"), half: float("inf")}
    for turn in range(rounds + 2):
        for call in best:
            start = time.perf_counter()
            call()
            if turn >= 2:
                best[call] = min(best[call], time.perf_counter() - start)
    return best[single] / best[half]


@cache
def pays_in_torch() -> bool:
    """Whether torch's own operations are faster in bfloat16 than in float32 on the CPU; about 0.1 s at the first call."""
    if not torch.cpu._is_avx512_bf16_supported():
        return False

    def call(dtype: torch.dtype) -> Callable[[], object]:
        x = torch.ones((1, CHANNELS, SIDE, SIDE), dtype=dtype).contiguous(memory_format=torch.channels_last)
        weight = torch.ones((CHANNELS, CHANNELS, 3, 3), dtype=dtype).contiguous(memory_format=torch.channels_last)
        return lambda: F.conv2d(x, weight, padding=1)

    with torch.inference_mode():
        return gain(call(torch.float32), call(torch.bfloat16)) > 1.0


@cache
def pays_in_openvino() -> bool:
    """Whether OpenVINO's graphs are faster in bfloat16 than in float32 on the CPU; about 0.5 s at the first call."""
    from pipelines.graphs.backends.openvino import convolutions, supports

    if not supports("BF16"):
        return False
    return gain(convolutions("f32", CHANNELS, SIDE), convolutions("bf16", CHANNELS, SIDE)) > 1.0
