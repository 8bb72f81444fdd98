"""`app.py bench`: each benchmark prints its results. The last line of stdout is one JSON object, also saved in
benchmarks/results."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import (
    ablation,
    browser,
    building,
    engine,
    gpu,
    kernels,
    live,
    loading,
    lora,
    machine,
    peers,
    rest,
    scaling,
    search,
    sessions,
    soak,
    steady,
)
from pipelines import RillError, SettingsError, SpecError

BENCHMARKS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], dict[str, Any]], str]] = {
    "engine": (engine.add_arguments, engine.main, "backends side by side, start-up, memory (default)"),
    "ablation": (ablation.add_arguments, ablation.main, "each acceleration alone, all, all but each: speed and likeness"),
    "steady": (steady.add_arguments, steady.main, "what lowers flicker: warped error, ghosts, cuts, processor time"),
    "rest": (rest.add_arguments, rest.main, "the picture at rest on a running server: how soon it is better, and what it delays"),
    "search": (search.add_arguments, search.main, "the best schedules of the feature cache, as presets of the model"),
    "scaling": (scaling.add_arguments, scaling.main, "sessions in one step, sizes, steps"),
    "sessions": (sessions.add_arguments, sessions.main, "many sessions on one device: sum, shares, latency"),
    "building": (building.add_arguments, building.main, "rates and latency during graph builds, and after them"),
    "peers": (peers.add_arguments, peers.main, "the same weights in diffusers and StreamDiffusion"),
    "browser": (browser.add_arguments, browser.main, "make run to the first picture, glass to glass in Chromium"),
    "loading": (loading.add_arguments, loading.main, "a checkpoint of SD-Turbo's size to its first frame: time and memory"),
    "lora": (lora.add_arguments, lora.main, "a change of a LoRA's weight, and what LoRAs cost in every frame"),
    "gpu": (gpu.add_arguments, gpu.main, "published shapes on a GPU, part by part, beside other engines (also: bench --gpu)"),
    "kernels": (kernels.add_arguments, kernels.main, "each fused operation against torch.compile's own fusion"),
    "soak": (soak.add_arguments, soak.main, "clients that change settings every second: longest wait, memory, threads"),
    "live": (live.add_arguments, live.main, "the studio over its socket against render, and its memory"),
}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="app.py bench", description=__doc__)
    commands = parser.add_subparsers(dest="name", metavar="BENCHMARK")
    for name, (add_arguments, _, words) in BENCHMARKS.items():
        command = commands.add_parser(name, help=words)
        add_arguments(command)
        command.add_argument("--no-keep", action="store_true", help="do not write benchmarks/results")
        command.add_argument(
            "--keep-as", default=name, metavar="NAME", help=f"write benchmarks/results/NAME.json (default: {name})"
        )
    arguments = ["gpu" if argument == "--gpu" else argument for argument in argv]
    if not arguments or (arguments[0] not in BENCHMARKS and arguments[0] not in ("-h", "--help")):
        arguments.insert(0, "engine")
    args = parser.parse_args(arguments)
    try:
        result = BENCHMARKS[args.name][1](args)
    except RillError as error:
        print(f"app.py bench {args.name}: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError | SpecError) else 1
    print(json.dumps(result if args.no_keep else machine.keep(args.keep_as, result)))
    return 0
