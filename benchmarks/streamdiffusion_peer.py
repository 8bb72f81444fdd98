"""The public StreamDiffusion code (installed beside, `pip install --no-deps streamdiffusion`) around a pipeline of diffusers.

It is run as published, but for three things it cannot do itself: it stamps times with CUDA events, also on a CPU, where they get
a stand-in; it makes noise with four channels whatever the model has; and it indexes into a grid of timesteps. It takes every
model's output for ε, so its pictures of a model that predicts x₀ are wrong, while the work it does is the same.
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
    """torch.cuda.Event where there is no CUDA: a point in wall time."""

    def __init__(self, **_: Any) -> None:
        self.at = 0.0

    def record(self) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, end: WallEvent) -> float:
        return (end.at - self.at) * 1000


def grid_index(timesteps: torch.Tensor, timestep: int) -> int:
    """The place of `timestep` on the grid. Raises ValueError if it is not on it."""
    places = (timesteps == timestep).nonzero().flatten().tolist()
    if not places:
        raise ValueError(f"timestep {timestep} is not on StreamDiffusion's grid of {len(timesteps)}")
    return int(places[0])


def build(pipe: Any, dtype: torch.dtype, size: int, timestep: int, prompt: str) -> Callable[[Pixels], Pixels]:
    """One step at `timestep` without guidance, picture to picture."""
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
