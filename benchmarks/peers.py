"""Measures the same weights in other pipelines: diffusers' image-to-image, and StreamDiffusion if it is installed; with
`--openvino-peers` also optimum-intel's and FastSD CPU's on a stock miniature (stock_peers.py).

Each does one denoising step at the same timestep, without guidance, from a uint8 picture to a uint8 picture, with the prompt
already encoded. Rill has all accelerations off. All take turns on the same frames in one process; ratios are formed by block.
diffusers runs int(n·s) steps, which is none at n = 1 and s = 0.5, so it gets its timestep explicitly, at strength 1.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import clips, machine, peer_environment, stock_peers, streamdiffusion_peer
from benchmarks.measure import add_model_arguments, positive, ratios, rounded_median
from pipelines import Entry, Frame, Pixels, Settings, SpecError, StreamPipeline, StreamSpec, describe, load, quality
from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.techniques.noise import LEVEL_STRIDE
from studio.environment import cache_dir

TIMESTEP = 499
"""Near strength 0.5, and on StreamDiffusion's grid of 50 timesteps."""

OURS, REFERENCE, THEIRS = "rill", "rill eager float32", "diffusers float32"

Transform = Callable[[Pixels], Pixels]


@dataclass
class Lane:
    """One pipeline from picture to picture, and its frames per second by block."""

    transform: Transform
    fps: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)

    def block(self, pictures: Sequence[Pixels]) -> None:
        start = time.perf_counter()
        for picture in pictures:
            began = time.perf_counter()
            self.transform(picture)
            self.milliseconds.append((time.perf_counter() - began) * 1000)
        self.fps.append(len(pictures) / (time.perf_counter() - start))


def rill(spec: StreamSpec, prompt: str, seed: int) -> tuple[Transform, StreamPipeline]:
    """Our engine with all accelerations off, at strength TIMESTEP/999, which gives TIMESTEP."""
    pipeline = load(spec, cache_dir())
    settings = Settings().patched(
        {"prompt": prompt, "strength": TIMESTEP / 999, "seed": seed, "guidance_mode": "none", "stream_batch.enabled": False}
    )
    (t,) = pipeline.schedule.timesteps(settings.strength, settings.steps)
    if t != TIMESTEP:
        raise RuntimeError(f"the engine would step at {t}, not at {TIMESTEP}")
    state = pipeline.open(settings)
    count = 0

    def transform(picture: Pixels) -> Pixels:
        nonlocal count
        count += 1
        (output,) = pipeline.step([Entry(state, Frame(count, 0.0, picture), settings)])
        if output.pixels is None:
            raise RuntimeError(f"frame {output.frame_id} was {output.verdict}")
        return output.pixels.numpy()

    return transform, pipeline


def diffusers_pipeline(model: str, dtype: torch.dtype) -> Any:
    """StableDiffusionImg2ImgPipeline from a folder, with our autoencoder and the UNet with its position biases."""
    from diffusers import StableDiffusionImg2ImgPipeline
    from diffusers.utils import logging

    logging.disable_progress_bar()
    info = describe(model)
    parts = ModelParts(info)
    options: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about fields in scheduler_config.json
        pipe = StableDiffusionImg2ImgPipeline.from_pretrained(
            info.base, unet=parts.unet.to(dtype), vae=parts.vae.to(dtype), torch_dtype=dtype, local_files_only=True, **options
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe.to("cuda" if torch.cuda.is_available() else "cpu")


def diffusers_lane(model: str, dtype: torch.dtype, prompt: str, seed: int) -> Transform:
    pipe = diffusers_pipeline(model, dtype)
    with torch.inference_mode():
        embeds, _ = pipe.encode_prompt(prompt, pipe.device, 1, do_classifier_free_guidance=False)
    calls: list[int] = []
    hook = pipe.unet.register_forward_pre_hook(lambda _, args: calls.append(int(torch.as_tensor(args[1]).flatten()[0])))

    def transform(picture: Pixels) -> Pixels:
        # The noise of the engine's first level, so the pictures can be compared.
        generator = torch.Generator().manual_seed((seed + LEVEL_STRIDE) % 2**63)
        made = pipe(
            prompt_embeds=embeds,
            image=Image.fromarray(picture),
            strength=1.0,
            timesteps=[TIMESTEP],
            num_inference_steps=1,
            guidance_scale=1.0,
            generator=generator,
        )
        return np.asarray(made.images[0])

    height = 128  # any size is enough to record the timesteps
    transform(np.zeros((height, height, 3), np.uint8))
    hook.remove()
    if calls != [TIMESTEP]:
        raise RuntimeError(f"diffusers stepped at {calls}, not once at {TIMESTEP}")
    return transform


def lanes(args: argparse.Namespace, prompt: str) -> tuple[dict[str, Lane], str | None]:
    """The available pipelines, and why StreamDiffusion is missing (None if it is not)."""

    def spec(backend: str, dtype: str) -> StreamSpec:
        return StreamSpec(args.model, args.size, args.size, backend, dtype)

    ours, pipeline = rill(spec(args.backend, args.dtype), prompt, args.seed)
    name = f"{OURS} {pipeline.spec.backend} {pipeline.spec.dtype}"
    found = {name: Lane(ours), REFERENCE: Lane(rill(spec("eager", "float32"), prompt, args.seed)[0])}
    for dtype in (torch.float32, torch.bfloat16):
        label = f"diffusers {str(dtype).removeprefix('torch.')}"
        found[label] = Lane(diffusers_lane(args.model, dtype, prompt, args.seed))
    if find_spec("streamdiffusion") is None:
        return found, "not installed"
    pipe = diffusers_pipeline(args.model, torch.bfloat16)
    transform = streamdiffusion_peer.build(pipe, torch.bfloat16, args.size, TIMESTEP, prompt)
    found["streamdiffusion bfloat16"] = Lane(transform)
    return found, None


def agreement(found: dict[str, Lane], pictures: Sequence[Pixels]) -> dict[str, float]:
    """Mean SSIM of each lane's pictures to those of diffusers in float32 with the same noise.

    StreamDiffusion is left out: it draws its own noise, and interprets every model's output as ε.
    """
    theirs = [found[THEIRS].transform(picture) for picture in pictures]
    likeness = {}
    for name, lane in found.items():
        if name != THEIRS and not name.startswith("streamdiffusion"):
            ours = [lane.transform(picture) for picture in pictures]
            likeness[name] = round(fmean(quality.ssim(a, b) for a, b in zip(ours, theirs, strict=True)), 4)
    return likeness


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--blocks", type=positive, default=5, help="measured blocks per lane")
    parser.add_argument("--frames", type=positive, default=8, help="frames per block")
    add_model_arguments(parser)
    parser.add_argument("--prompt", help="default: the model's first example")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--openvino-peers",
        type=Path,
        metavar="DIR",
        help="also measure optimum-intel and FastSD CPU's path, in the virtual environment DIR (made if it is missing)",
    )


def stock(args: argparse.Namespace, environment: Path) -> dict[str, Any]:
    """Rill beside optimum-intel and FastSD CPU on a stock miniature, in OpenVINO."""
    peer_environment.ensure(environment)
    with tempfile.TemporaryDirectory() as folder:
        model = stock_peers.checkpoint(Path(folder))
        transform, pipeline = rill(
            StreamSpec(str(model), args.size, args.size, "openvino", args.dtype), stock_peers.PROMPT, args.seed
        )
        dtype = pipeline.spec.dtype
        if dtype not in stock_peers.HINTS:
            raise SpecError("dtype", f"{dtype} is not measured beside optimum-intel; {' and '.join(stock_peers.HINTS)} are")
        pictures = list(clips.clip("handheld", args.size, args.size, frames=args.frames))
        return stock_peers.measure(environment, model, Lane(transform), transform, dtype, pictures, args.blocks, args.seed)


def main(args: argparse.Namespace) -> dict[str, Any]:
    about = machine.describe()
    prompt = args.prompt or next(iter(describe(args.model).prompts), Settings().prompt)
    pictures = list(clips.clip("handheld", args.size, args.size, frames=args.frames))
    found, missing = lanes(args, prompt)
    alike = agreement(found, pictures[:3])  # also a warm-up
    stock_peers.take_turns(list(found.values()), pictures, args.blocks)
    ours = next(iter(found.values()))
    result: dict[str, Any] = {"machine": about, "model": args.model, "size": args.size, "timestep": TIMESTEP, "prompt": prompt}
    result |= {"blocks": args.blocks, "frames_per_block": args.frames, "streamdiffusion": missing or "measured", "lanes": {}}
    for name, lane in found.items():
        result["lanes"][name] = {
            "generated_fps": rounded_median(lane.fps, 2),
            "ms_per_frame": rounded_median(lane.milliseconds, 2),
            "times_faster_than_it": rounded_median(ratios(ours.fps, lane.fps)),
            "ssim_to_diffusers_float32": alike.get(name),
        }
    print(table(result))
    if args.openvino_peers is not None:
        result["stock"] = stock(args, args.openvino_peers)
        print(f"\n{stock_peers.SHAPE}, random weights, {result['stock']['dtype']}\n{stock_peers.table(result['stock'])}")
    return result


def table(result: dict[str, Any]) -> str:
    lines = [f"{'':26}{'fps':>8}{'ms':>10}{'ours is':>10}{'SSIM':>9}"]
    for name, f in result["lanes"].items():
        alike = "-" if f["ssim_to_diffusers_float32"] is None else f["ssim_to_diffusers_float32"]
        lines.append(f"{name:26}{f['generated_fps']:>8}{f['ms_per_frame']:>10}{f['times_faster_than_it']:>9}×{alike:>9}")
    if result["streamdiffusion"] != "measured":
        lines.append(f"StreamDiffusion: {result['streamdiffusion']}")
    return "\n".join(lines)
