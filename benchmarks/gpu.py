"""`app.py bench --gpu`: published shapes with random weights through the whole engine, from uint8 pictures to uint8 pictures.

For each shape: one session at 1 to 4 steps, image to image and text to image; many sessions; the feature cache; the UNet's time
at each bucket; then the same without each part of the GPU path; and in the same run other engines with the same weights.
Pictures are fetched one step after their launch, as in the studio's codec pool, so a lane's rate is that of a stream. --tiny
runs everything in miniature, also on a CPU. That checks that the command works; its figures have no meaning.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_lanes, gpu_peers, gpu_state, machine, shapes
from benchmarks.measure import positive, ratios, rounded_median
from kernels import attention
from pipelines import RillError, SpecError, StreamPipeline, StreamSpec, load
from pipelines.graphs.backends import torchao_dtypes
from pipelines.values.types import GpuPath

WHOLE = GpuPath()
NEEDS = "bench --gpu needs an NVIDIA GPU and a CUDA build of torch (docs/gpu.md); --tiny runs it in miniature without one"


@dataclasses.dataclass(frozen=True, slots=True)
class Variant:
    """The engine without a part of its GPU path, or with another part instead."""

    name: str
    path: GpuPath = WHOLE
    backend: str = "compile"
    dtype: str = "float16"
    attention: str = "sdpa"
    full_autoencoder: bool = False


def variants() -> list[Variant]:
    """The whole path, then the path without each part. Parts that need a missing package are left out."""
    found = [Variant("whole path")]
    for part in ("channels_last", "graphs", "pinned", "overlap", "kernels"):
        off: dict[str, Any] = {part: False}
        found.append(Variant(f"without {part}", dataclasses.replace(WHOLE, **off)))
    found.append(Variant("without compile", dataclasses.replace(WHOLE, compiled=False)))
    found.append(Variant("plain eager", dataclasses.replace(WHOLE, kernels=False, overlap=False, pinned=False), "eager"))
    found.append(Variant("bfloat16", dtype="bfloat16"))
    found.append(Variant("full autoencoder", full_autoencoder=True))
    if attention.available("xformers"):
        found.append(Variant("xformers", attention="xformers"))
    if torchao_dtypes.available():
        found += [Variant(dtype, dtype=dtype) for dtype in torchao_dtypes.CAPABILITY]
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Setup:
    """Device, folders and sizes of a run."""

    folder: Path
    device: str
    size: int
    tiny: bool
    blocks: int
    seconds: float

    def checkpoint(self, shape: str, full_autoencoder: bool) -> Path:
        """The folder of the shape's checkpoint, written on first use."""
        folder = self.folder / (shape + ("-full" if full_autoencoder else ""))
        if not folder.exists():
            print(f"{folder.name}: making random weights", flush=True)
            shapes.save(folder, shape, self.tiny, full_autoencoder)
        return folder

    def load(self, shape: str, variant: Variant, steps: int = 4) -> StreamPipeline:
        """A pipeline of the shape. In miniature on a CPU it is always eager and float32."""
        on_gpu = self.device != "cpu"
        backend, dtype = (variant.backend, variant.dtype) if on_gpu else ("eager", "float32")
        model = str(self.checkpoint(shape, variant.full_autoencoder))
        spec = StreamSpec(model, self.size, self.size, backend, dtype, self.device, steps, attention=variant.attention)
        return load(spec, offline=True, path=variant.path)


def whole(setup: Setup, shape: str, args: argparse.Namespace) -> dict[str, Any]:
    """Results of one shape on the whole path: steps, modes, sessions, cache, buckets."""
    pipeline = setup.load(shape, Variant("whole path"))
    lanes = {f"image, {n} step(s)": gpu_lanes.Lane(pipeline, 1, {"steps": n}) for n in args.steps}
    lanes |= {f"text, {n} step(s)": gpu_lanes.Lane(pipeline, 1, {"steps": n}, pictures=False) for n in args.steps}
    lanes |= {f"{count} sessions": gpu_lanes.Lane(pipeline, count, {"steps": 1}) for count in args.sessions if count > 1}
    cache = {"steps": 1, "cache.enabled": True, "cache.interval": 3, "cache.drift": 1.0}
    lanes["cache, interval 3"] = gpu_lanes.Lane(pipeline, 1, cache)
    with gpu_state.watched() as state:
        gpu_lanes.take_turns(list(lanes.values()), setup.blocks, setup.seconds)
    one = lanes[f"image, {args.steps[0]} step(s)"]
    found = {name: lane.summary(one) for name, lane in lanes.items()}
    buckets = gpu_lanes.unet_times(pipeline, max(args.sessions), setup.blocks)
    result: dict[str, Any] = {"dtype": pipeline.spec.dtype, "backend": pipeline.spec.backend, "lanes": found, "unet_ms": buckets}
    result["per_call_rows"] = gpu_lanes.per_call(buckets)
    result["cache_unet_ratio"] = cached_ratio(one, lanes["cache, interval 3"])
    pipeline.close()
    return result | {"while_measured": dict(state)}


def cached_ratio(plain: gpu_lanes.Lane, cached: gpu_lanes.Lane) -> float | None:
    """UNet time per frame with the cache over that without, from the device's own clocks."""
    return rounded_median(ratios([cached.stages["denoise"]], [plain.stages["denoise"]]))


def ablate(setup: Setup, shape: str, sessions: list[int]) -> dict[str, Any]:
    """The shape at one step, with one session and with the most, for each variant; ratios to the whole path of the same run."""
    found: dict[str, Any] = {}
    base: dict[int, gpu_lanes.Lane] = {}
    reference = None
    for variant in variants():
        try:
            pipeline = setup.load(shape, variant, steps=1)
            lanes = {count: gpu_lanes.Lane(pipeline, count, {"steps": 1}) for count in sessions}
            gpu_lanes.take_turns(list(lanes.values()), setup.blocks, setup.seconds)
        except (RillError, RuntimeError, ImportError) as error:  # a package that does not fit this GPU does not stop the run
            found[variant.name] = {"failed": f"{type(error).__name__}: {error}"[:300]}
            continue
        base = base or lanes
        picture = gpu_lanes.picture(pipeline)
        reference = picture if reference is None else reference
        result: dict[str, Any] = {str(count): lane.summary(base[count]) for count, lane in lanes.items()}
        found[variant.name] = result | {"ssim_to_whole_path": gpu_lanes.likeness(picture, reference)}
        pipeline.close()
        print(
            f"  {variant.name:24}" + "  ".join(f"{n}: {lane.summary()['frames_per_s']}" for n, lane in lanes.items()), flush=True
        )
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tiny", action="store_true", help="in miniature, on a CPU too: shows that the command works")
    parser.add_argument("--shapes", nargs="+", choices=shapes.SHAPES, default=list(shapes.SHAPES))
    parser.add_argument("--size", type=positive, help="default: 512; 128 in miniature")
    parser.add_argument("--steps", type=positive, nargs="+", help="default: 1 2 3 4; 1 2 in miniature")
    parser.add_argument("--sessions", type=positive, nargs="+", help="default: 1 4 16 32; 1 2 in miniature")
    parser.add_argument("--ablate", nargs="*", choices=shapes.SHAPES, help="shapes to take parts away from (default: the first)")
    parser.add_argument("--blocks", type=positive, help="measured blocks per lane (default: 5; 1 in miniature)")
    parser.add_argument("--seconds", type=float, help="of one block (default: 1; 0 in miniature)")


def completed(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments with defaults for the missing ones."""
    full = {"size": 512, "steps": [1, 2, 3, 4], "sessions": [1, 4, 16, 32], "blocks": 5, "seconds": 1.0}
    tiny = {"size": 128, "steps": [1, 2], "sessions": [1, 2], "blocks": 1, "seconds": 0.0}
    for name, value in (tiny if args.tiny else full).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.ablate is None:
        args.ablate = args.shapes[:1]
    return args


def main(args: argparse.Namespace) -> dict[str, Any]:
    if not (torch.cuda.is_available() or args.tiny):
        raise SpecError("device", NEEDS)
    args = completed(args)
    about, gpu = machine.describe(), gpu_state.describe()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    result: dict[str, Any] = {"machine": about, "gpu": gpu, "tiny": args.tiny, "size": args.size, "shapes": {}}
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(Path(folder), device, args.size, args.tiny, args.blocks, args.seconds)
        for shape in args.shapes:
            found = result["shapes"][shape] = whole(setup, shape, args)
            print(f"{shape}, {found['backend']} {found['dtype']}", flush=True)
            for name, lane in found["lanes"].items():
                print(f"  {name:24}{lane['frames_per_s']:>9} frames/s   p95 {lane['latency_ms']['p95']} ms", flush=True)
            if shape in args.ablate:
                found["ablation"] = ablate(setup, shape, sorted({1, max(n for n in args.sessions if n <= 16)}))
            found["peers"] = gpu_peers.measure(setup.checkpoint(shape, False), setup, shape)
    return result
