"""Command-line arguments of several commands, and their conversion to a spec and settings."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import GraphLimits, LoraUse, Settings, SpecError, StreamSpec, parse_assignment

if TYPE_CHECKING:
    from pipelines import SafetyChecker
    from studio.files.exchange import FileOptions


def add_spec_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default="pocket",
        help="a registered name (app.py models), a hub id, a local folder or a .safetensors file; +EXTRA adds a LoRA or tiny "
        "autoencoder (docs/models.md)",
    )
    parser.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="NAME[:WEIGHT]",
        help="a LoRA: .safetensors file, hub id, owner/name/file.safetensors or registered extra; may be repeated",
    )
    parser.add_argument(
        "--lora-folder",
        type=Path,
        action="append",
        default=[],
        help="prompts name LoRA files below this folder by <lora:NAME:0.8>; visitors of a server may add them while the stream "
        "runs; may be repeated",
    )
    parser.add_argument("--offline", action="store_true", help="load only files that were downloaded before")
    parser.add_argument(
        "--safety-checker",
        metavar="MODEL",
        help="show a black picture where Stable Diffusion's safety checker objects: published, or a folder or hub id",
    )
    parser.add_argument("--size", default="512", help="SIZE or WIDTHxHEIGHT in pixels, multiples of 64 from 128 to 1024")
    parser.add_argument("--backend", default="auto", choices=StreamSpec.BACKENDS)
    parser.add_argument("--dtype", default="auto", choices=StreamSpec.DTYPES)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    kinds = "what computes attention on a GPU: sdpa, torch's own, or xformers, which has to be installed (default: auto, sdpa)"
    parser.add_argument("--attention", default="auto", choices=StreamSpec.ATTENTIONS, help=kinds)
    wide = "at sizes other than the model's native one: attention scales and windows self-attention, full also draws large "
    wide += "shapes as at half the size (default: off)"
    smaller = "a second, smaller model of the same kind, whose UNet takes the first steps (setting stitch.fraction)"
    parser.add_argument("--stitch", default="", metavar="MODEL", help=smaller)
    parser.add_argument("--hires", default="off", choices=StreamSpec.HIRES, help=wide)

    add_patch_arguments(parser)


def add_patch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--patch-devices",
        type=lambda text: tuple(text.split(",")),
        default=(),
        metavar="DEVICE,DEVICE",
        help="two GPUs that compute half of each picture each, as cuda:0,cuda:1; with the eager backend (docs/scaling.md)",
    )
    parser.add_argument(
        "--patch-exchange",
        default="synchronous",
        choices=StreamSpec.EXCHANGES,
        help="what the two exchange: synchronous, so that the picture is that of one device; stale, activations of the frame "
        "before; border, a part of those (default: synchronous)",
    )


def add_graph_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--graph-memory",
        type=gigabytes,
        metavar="GB",
        help="memory for compiled graphs beside the plain ones of one row; the least recently used is evicted first (default: "
        "1.25 GB or twice the model, whichever is more, but at most a quarter of the free memory after the model is loaded)",
    )
    parser.add_argument(
        "--graph-disk",
        type=gigabytes,
        default=GraphLimits().disk,
        metavar="GB",
        help=f"disk space for compiled graphs between starts (default: {GraphLimits().disk / 1e9:g})",
    )


def gigabytes(text: str) -> int:
    """Bytes of a text in gigabytes. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 10_000.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 10000 gigabytes")
    return round(value * 1e9)


def graph_limits_of(args: argparse.Namespace) -> GraphLimits:
    return GraphLimits(args.graph_memory, args.graph_disk)


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", help="description of the resulting picture")
    parser.add_argument("--strength", type=float, help="0..1: amount of noise added to the input")
    parser.add_argument("--steps", type=int, help="denoising steps per frame")
    parser.add_argument("--seed", type=int, help="seed of the session's noise")
    add_preset_argument(parser)
    parser.add_argument(
        "--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE", help="any live setting (docs/settings.md)"
    )


def add_preset_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", metavar="NAME", help="named speed settings of the model; --set wins over them")


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of every command that reads a file and writes one."""
    parser.add_argument(
        "--fit",
        choices=("crop", "pad", "stretch"),
        help="how other aspect ratios fill the size: cut at the edges, bars, or distorted (default: crop)",
    )
    shown = "behind transparent pixels and of bars: a name or #RRGGBB (default: grey, and black bars)"
    parser.add_argument("--background", type=colour, metavar="COLOUR", help=shown)
    parser.add_argument("--fps", type=rate, help="resample to so many pictures a second (default: the times of the input)")
    parser.add_argument("--no-audio", dest="audio", action="store_false", help="leave the sound of the clip out")


def file_options_of(args: argparse.Namespace) -> FileOptions:
    from pipelines import media
    from studio.files.exchange import FileOptions

    given = args.background
    reading = media.ReadOptions(args.fit or "crop", given or media.NEUTRAL, given or media.BLACK, args.fps)
    return FileOptions(reading, args.audio)


def colour(text: str) -> tuple[int, int, int]:
    """RGB 0..255. Raises ArgumentTypeError."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no colour; give a name or #RRGGBB") from None
    return red, green, blue


def rate(text: str) -> Fraction:
    """Pictures per second: 25, 29.97 or 30000/1001. Raises ArgumentTypeError."""
    try:
        value = Fraction(text).limit_denominator(1001)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if not 0 < value <= 240:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate above 0 and up to 240")
    return value


def spec_of(args: argparse.Namespace) -> StreamSpec:
    """The spec of the arguments. Raises SpecError."""
    width, height = parse_size(args.size)
    steps = getattr(args, "steps", None) or 1
    loras = tuple(map(parse_lora, args.lora))
    most = max(4, min(8, steps))
    how = args.backend, args.dtype, args.device, most, loras, args.attention, args.hires, args.stitch
    return StreamSpec(args.model, width, height, *how, args.patch_devices, args.patch_exchange)


def parse_lora(text: str) -> LoraUse:
    """A LoRA from NAME or NAME:WEIGHT. If the whole text is an existing file, it is the name, and so it is if the last colon
    stands within a path, as after a drive's letter. Raises SpecError."""
    name, colon, number = text.rpartition(":")
    if not colon or "/" in number or "\\" in number or Path(text).expanduser().exists():
        return LoraUse(text)
    try:
        return LoraUse(name, float(number))
    except ValueError:
        raise SpecError("loras", f"{text!r}: {number!r} is not a weight") from None


def safety_of(args: argparse.Namespace) -> SafetyChecker | None:
    """The safety checker of --safety, None without it. Slow. Raises ModelError."""
    if args.safety_checker is None:
        return None
    from pipelines import PUBLISHED_SAFETY_CHECKER, SafetyChecker

    device = args.device if args.device.startswith("cuda") else "cpu"
    name = PUBLISHED_SAFETY_CHECKER if args.safety_checker == "published" else args.safety_checker
    return SafetyChecker(name, device, args.offline)


def parse_size(size: str) -> tuple[int, int]:
    """(512, 384) from "512x384", (512, 512) from "512". Raises SpecError."""
    width, _, height = size.lower().partition("x")
    try:
        return int(width), int(height or width)
    except ValueError:
        raise SpecError("size", f"{size!r} is neither SIZE nor WIDTHxHEIGHT") from None


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings of the arguments. Later assignments override earlier ones and named arguments. Raises SettingsError."""
    patch = begun_with(args.model) | preset_of(args)
    for key in ("prompt", "strength", "steps", "seed"):
        value = getattr(args, key)
        if value is not None:
            patch[key] = value
    patch.update(assignments(args.assignments))
    return Settings().patched(patch) if patch else Settings()


def begun_with(model: str) -> dict[str, object]:
    """The settings that a registered model begins with, by dotted key: the guidance scale of a distilled LCM, which its network
    takes as an input. model: its name, perhaps with parts."""
    from pipelines import REGISTRY

    info = REGISTRY.get(model.partition("+")[0].partition("@")[0])
    return {} if info is None or info.guidance is None else {"guidance": info.guidance}


def preset_of(args: argparse.Namespace) -> dict[str, object]:
    """The settings of --preset, by dotted key; none without it. Raises SettingsError, ModelError."""
    if args.preset is None:
        return {}
    from pipelines import describe, presets

    return dict(presets.chosen(describe(args.model).presets, args.preset).settings)


def assignments(given: Sequence[str]) -> dict[str, object]:
    """Values by dotted key. Raises SettingsError for anything but KEY=VALUE of a known setting."""
    return dict(parse_assignment(item) for item in given)
