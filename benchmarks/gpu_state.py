"""The GPU of a measurement: its description, and its clocks and power meanwhile, from nvidia-smi in its own process."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

import torch

ABOUT = ("name", "driver_version", "vbios_version", "power.limit", "clocks.max.sm", "memory.total", "compute_mode")
WATCHED = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "utilization.gpu", "memory.used")
EVERY_MS = 200
PACKAGES = ("triton", "xformers", "torchao", "streamdiffusion")


def describe() -> dict[str, Any] | None:
    """Hardware, driver and versions; None without a CUDA device."""
    if not torch.cuda.is_available():
        return None
    (about,) = _query(ABOUT) or [{}]
    versions = {name: _version(name) for name in PACKAGES}
    capability = ".".join(map(str, torch.cuda.get_device_capability()))
    cuda = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "capability": capability}
    return {"device": torch.cuda.get_device_name(), **about, **cuda, "versions": versions}


@contextlib.contextmanager
def watched() -> Iterator[dict[str, float]]:
    """A dict that has the medians of WATCHED after the `with` block; empty without nvidia-smi."""
    medians: dict[str, float] = {}
    if shutil.which("nvidia-smi") is None:
        yield medians
        return
    command = [
        "nvidia-smi",
        "-i",
        "0",
        f"--query-gpu={','.join(WATCHED)}",
        "--format=csv,noheader,nounits",
        "-lms",
        str(EVERY_MS),
    ]
    watcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield medians
    finally:
        watcher.terminate()
        medians.update(summary(watcher.communicate()[0]))


def summary(lines: str) -> dict[str, float]:
    """The median of each column of WATCHED; values that are not numbers are left out."""
    columns: dict[str, list[float]] = {name: [] for name in WATCHED}
    for line in lines.splitlines():
        for name, text in zip(WATCHED, line.split(","), strict=False):
            with contextlib.suppress(ValueError):
                columns[name].append(float(text))
    return {name: median(values) for name, values in columns.items() if values}


def _query(fields: tuple[str, ...]) -> list[dict[str, str]]:
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "-i", "0", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return [dict(zip(fields, map(str.strip, line.split(",")), strict=False)) for line in done.stdout.splitlines()][:1]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
