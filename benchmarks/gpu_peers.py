"""Other engines on the same GPU with the same random weights: diffusers, and the public StreamDiffusion code where installed.

One step at one timestep without guidance, picture to picture. StreamDiffusion runs in half precision with the tiny autoencoder
and, where it is installed, xformers; its TensorRT engines need a separate build and are left out.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from benchmarks import streamdiffusion_peer
from benchmarks.measure import rounded_median
from pipelines import Pixels

TIMESTEP = 499
PROMPT = "oil painting"


class Conditions(Protocol):
    """The part of a benchmark's setup that the peers need."""

    @property
    def device(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def blocks(self) -> int: ...
    @property
    def seconds(self) -> float: ...


def measure(folder: Path, setup: Conditions, shape: str) -> dict[str, Any]:
    """Frames per second of each peer on this checkpoint, or why it was not measured."""
    found: dict[str, Any] = {}
    builders: dict[str, Callable[[Path, Conditions], Callable[[Pixels], object]]] = {"diffusers": _diffusers}
    if find_spec("streamdiffusion") is None:
        found["streamdiffusion"] = "not installed"
    elif shape == "sdxl-turbo":
        found["streamdiffusion"] = "its published code takes no pooled text"
    else:
        builders["streamdiffusion"] = _streamdiffusion
    picture = np.random.default_rng(0).integers(0, 256, (setup.size, setup.size, 3), np.uint8)
    for name, build in builders.items():
        try:
            found[name] = {"frames_per_s": rounded_median(_rates(build(folder, setup), picture, setup), 2)}
        except Exception as error:  # third-party code on an unknown machine: its error is the result
            found[name] = f"failed: {type(error).__name__}: {error}"[:300]
        print(f"  {name:24}{found[name]}", flush=True)
    return found


def _rates(transform: Callable[[Pixels], object], picture: Pixels, setup: Conditions) -> list[float]:
    rates = []
    for block in range(setup.blocks + 1):
        done, start = 0, time.perf_counter()
        while done < 3 or (block and time.perf_counter() - start < setup.seconds):
            transform(picture)
            done += 1
        if block:
            rates.append(done / (time.perf_counter() - start))
    return rates


def _pipeline(folder: Path, setup: Conditions) -> Any:
    from diffusers import AutoPipelineForImage2Image
    from diffusers.utils import logging

    logging.disable_progress_bar()
    dtype = torch.float16 if setup.device == "cuda" else torch.float32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a scheduler's fields, and of a checkpoint without a safety checker
        pipe = AutoPipelineForImage2Image.from_pretrained(folder, torch_dtype=dtype, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(setup.device)


def _diffusers(folder: Path, setup: Conditions) -> Callable[[Pixels], object]:
    from diffusers import LCMScheduler

    pipe = _pipeline(folder, setup)
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)

    def transform(picture: Pixels) -> object:
        image, size = Image.fromarray(picture), {"strength": 1.0, "timesteps": [TIMESTEP], "num_inference_steps": 1}
        return np.asarray(pipe(PROMPT, image=image, guidance_scale=1.0, **size).images[0])

    return transform


def _streamdiffusion(folder: Path, setup: Conditions) -> Callable[[Pixels], object]:
    pipe = _pipeline(folder, setup)
    if find_spec("xformers") is not None:
        pipe.enable_xformers_memory_efficient_attention()
    return streamdiffusion_peer.build(pipe, pipe.unet.dtype, setup.size, TIMESTEP, PROMPT)
