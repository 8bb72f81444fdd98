"""Measures loading a checkpoint of SD-Turbo's shape in half precision, to the first frame.

It compares time and peak memory with the estimate from before the load, and measures the memory that remains after unloading. The
weights are random numbers in the published layout, in a temporary folder. Saving and loading are separate processes, so a fresh
process is measured. A second one uses the graphs that the first one has stored on disk.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from pipelines import RillError
from pipelines.values.models import ASSETS

ROOT = Path(__file__).resolve().parents[1]
SHAPES = {"sd-turbo": 1, "half": 2}
"""Name → divisor of every width."""

GIB = 1 << 30

LIBRARIES = ("openvino", "diffusers.models.unets.unet_2d_condition", "transformers.models.clip.modeling_clip")
"""Imported before the first memory reading, because they do not belong to a model's need."""


def save(folder: Path, shape: str) -> None:
    """Write a checkpoint of this shape in the diffusers layout, float16, with random weights."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from pipelines.checkpoints.loader import networks, vocabulary
    from pipelines.checkpoints.loader.single import LAYOUTS

    networks.quiet()
    layout, by = LAYOUTS["sd21"], SHAPES[shape]
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16)
    for part, kind, widths in (
        ("unet", UNet2DConditionModel, ("block_out_channels", "cross_attention_dim")),
        ("vae", AutoencoderKL, ("block_out_channels",)),
    ):
        kind.from_config(_narrowed(_config(layout / part), widths, by)).save_pretrained(folder / part)
    text = _narrowed(_config(layout / "text_encoder"), ("hidden_size", "intermediate_size", "num_attention_heads"), by)
    CLIPTextModel(CLIPTextConfig(**text)).save_pretrained(folder / "text_encoder")
    vocabulary.tokenizer(layout, text["max_position_embeddings"], "!").save_pretrained(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    scheduler = _config(layout / "scheduler", "scheduler_config.json") | {"prediction_type": "epsilon"}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    index: dict[str, object] = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", scheduler.get("_class_name", "DDIMScheduler")],
    }
    (folder / "model_index.json").write_text(json.dumps(index))


def _config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    return dict(json.loads((folder / name).read_text(encoding="utf-8")))


def _narrowed(config: dict[str, Any], widths: tuple[str, ...], by: int) -> dict[str, Any]:
    """The configuration with these widths divided."""
    narrow = dict(config)
    for name in widths:
        value = config[name]
        narrow[name] = [width // by for width in value] if isinstance(value, list) else value // by
    return narrow


def measure(folder: Path, backend: str, dtype: str, size: int, cache: Path) -> dict[str, Any]:
    """Seconds to the first frame, peak resident memory, and resident memory after unloading. Call it in a fresh process.

    cache: the folder of compiled graphs.
    """
    import numpy as np

    from pipelines import Entry, Frame, Settings, StreamSpec, load, release_memory
    from pipelines.checkpoints.loader.parts import ModelParts
    from pipelines.checkpoints.naming import describe
    from pipelines.graphs.backends import selection
    from pipelines.graphs.memory import estimate_of

    spec = StreamSpec(str(folder), size, size, backend, dtype)
    for name in LIBRARIES:
        importlib.import_module(name)
    (need,) = estimate_of(ModelParts(describe(spec.model), offline=True), selection.resolve(spec))
    before = _resident("VmHWM")
    start = time.perf_counter()
    pipeline = load(spec, cache, offline=True)
    loaded = time.perf_counter() - start
    settings = Settings()
    picture = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    (answer,) = pipeline.step([Entry(pipeline.open(settings), Frame(0, 0.0, picture), settings)])
    first = time.perf_counter() - start
    assert answer.pixels is not None
    peak, ran = _resident("VmHWM"), pipeline.spec
    pipeline.close()
    del pipeline, answer
    release_memory()
    return {
        "backend": ran.backend,
        "dtype": ran.dtype,
        "estimate_gib": {name: round(getattr(need, name) / GIB, 3) for name in ("weights", "activations", "total")},
        "loaded_s": round(loaded, 1),
        "first_frame_s": round(first, 1),
        "libraries_gib": round(before / GIB, 3),
        "peak_gib": round(peak / GIB, 3),
        "unloaded_gib": round(_resident("VmRSS") / GIB, 3),
        "peak_to_estimate": round(peak / need.total, 3),
        "growth_to_estimate": round((peak - before) / need.total, 3),
    }


def _resident(what: str) -> int:
    """Bytes of this process in memory, including pages of files. what: VmRSS (now) or VmHWM (peak)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shapes, about = (*SHAPES, "pocket"), "half: every width by two, a quarter of the memory; pocket: the shipped model"
    parser.add_argument("--shape", choices=shapes, default="sd-turbo", help=about)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--size", type=int, default=512)


def main(args: argparse.Namespace) -> dict[str, Any]:
    about = machine.describe()
    with tempfile.TemporaryDirectory() as root:
        folder, cache = ASSETS / "pocket" if args.shape == "pocket" else Path(root) / "model", Path(root) / "cache"
        if args.shape != "pocket":
            _run("save", str(folder), args.shape)
        stored = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
        print(f"{args.shape}: {stored / GIB:.2f} GiB of weights", flush=True)
        wanted = ("measure", str(folder), args.backend, args.dtype, str(args.size), str(cache))
        result = json.loads(_run(*wanted))
        again = json.loads(_run(*wanted)) if result["backend"] == "openvino" else None
    print(
        f"{result['backend']} {result['dtype']}: first frame after {result['first_frame_s']} s; peak {result['peak_gib']} GiB, "
        f"estimated {result['estimate_gib']['total']} GiB ({result['peak_to_estimate']} of it, {result['growth_to_estimate']} "
        f"without the {result['libraries_gib']} GiB of libraries); {result['unloaded_gib']} GiB when it is unloaded"
    )
    if again is not None:
        print(f"with its graphs on disk: first frame after {again['first_frame_s']} s; peak {again['peak_gib']} GiB")
        result["again"] = {name: again[name] for name in ("loaded_s", "first_frame_s", "peak_gib")}
    return {"machine": about, "shape": args.shape, "size": args.size, "stored_gib": round(stored / GIB, 3), **result}


def _run(*arguments: str) -> str:
    """The last line of output of a process of this module. Raises RillError with its error message."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.loading", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        complaint = done.stderr.strip().splitlines() or [str(done.returncode)]
        raise RillError(f"{arguments[0]} failed: {complaint[-1]}")
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["save", to, named]:
            save(Path(to), named)
        case ["measure", at, with_backend, in_dtype, pixels, kept]:
            print(json.dumps(measure(Path(at), with_backend, in_dtype, int(pixels), Path(kept))))
