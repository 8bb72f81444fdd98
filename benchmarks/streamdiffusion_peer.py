"""The public StreamDiffusion code (`pip install --no-deps streamdiffusion`) with a pipeline of diffusers.

It runs as published, except for three points. It records CUDA events also on a CPU, so they are replaced there. It makes noise
with four channels for every model, which is corrected. It indexes into a grid of timesteps. It interprets every model's output
as ε, so its pictures of a model that predicts x₀ are wrong; the amount of work is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pipelines import Pixels

GRID = 50


class WallEvent:
    """A replacement for torch.cuda.Event without CUDA: a point in wall time."""

    def __init__(self, **_: Any) -> None:
        self.at = 0.0

    def record(self) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, end: WallEvent) -> float:
        return (end.at - self.at) * 1000


def grid_index(timesteps: torch.Tensor, timestep: int) -> int:
    """The index of `timestep` on the grid. Raises ValueError if it is missing there."""
    places = (timesteps == timestep).nonzero().flatten().tolist()
    if not places:
        raise ValueError(f"timestep {timestep} is not on StreamDiffusion's grid of {len(timesteps)}")
    return int(places[0])


def build(pipe: Any, dtype: torch.dtype, size: int, timestep: int, prompt: str) -> Callable[[Pixels], Pixels]:
    """A function from picture to picture: one step at `timestep` without guidance."""
    from diffusers import LCMScheduler
    from diffusers.image_processor import VaeImageProcessor
    from streamdiffusion import StreamDiffusion

    if not torch.cuda.is_available():
        torch.cuda.Event = WallEvent  # type: ignore[assignment,misc]
        torch.cuda.synchronize = lambda *_: None
    scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(GRID)
    index = grid_index(scheduler.timesteps, timestep)
    stream = StreamDiffusion(pipe, [index], torch_dtype=dtype, width=size, height=size, cfg_type="none")
    stream.prepare(prompt, num_inference_steps=GRID, guidance_scale=1.0)
    shape = (1, pipe.unet.config.in_channels, stream.latent_height, stream.latent_width)
    stream.init_noise = torch.randn(shape, generator=stream.generator).to(pipe.device, dtype)
    stream.stock_noise = torch.zeros_like(stream.init_noise)
    processor = VaeImageProcessor(pipe.vae_scale_factor)

    def transform(picture: Pixels) -> Pixels:
        from PIL import Image

        made = stream(Image.fromarray(picture))
        return np.asarray(processor.postprocess(made, output_type="pil")[0])

    return transform
