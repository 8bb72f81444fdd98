"""Rill's command line: serve (default), render, fit, models, bench.

Exit codes: 0 done; 1 a file or model could not be used; 2 an argument is wrong; 130 interrupted.

Each command imports what it needs when it needs it: help and wrong arguments do not wait for torch.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

DEFAULT_COMMAND = "serve"


def program() -> str:
    """What the user typed: rill where the package is installed, else app.py."""
    return "rill" if Path(sys.argv[0]).stem == "rill" else "app.py"


def build_parser() -> argparse.ArgumentParser:
    from studio.cli import serve_options
    from studio.cli.arguments import add_file_arguments, add_graph_arguments, add_settings_arguments, add_spec_arguments

    parser = argparse.ArgumentParser(prog=program(), description="Rill, a live diffusion studio.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve_options.add_arguments(commands.add_parser("serve", help="start the studio (default)"))
    render = commands.add_parser("render", help="transform a picture or a clip, file to file")
    render.add_argument("input", type=Path, help="a picture, an animation, a clip, or a folder of pictures (docs/files.md)")
    kinds = "its name gives the kind: .mp4, .webm, .gif, .webp, .apng, .png and others; a folder, or NAME-%%04d.png"
    render.add_argument("output", type=Path, help=kinds)
    add_spec_arguments(render)
    add_graph_arguments(render)
    add_settings_arguments(render)
    add_file_arguments(render)
    render.add_argument("--mask", type=Path, help="painted strength map for --set strength_map.mode=mask; white is full strength")
    render.add_argument("--picture", type=Path, help="picture prompt: a picture, or the file of a style (docs/models.md)")
    second = "a second picture or style, mixed in by --set picture.blend=0..1"
    render.add_argument("--picture-b", type=Path, metavar="PICTURE", help=second)
    render.add_argument("--timeline", type=Path, metavar="FILE", help='settings changes: {"frame": 10, "patch": {...}} a line')
    render.add_argument("--record", type=Path, metavar="FILE", help="write a record that reproduces the same bytes")
    render.add_argument("--replay", type=Path, metavar="FILE", help="replay a record with its settings and decisions")
    fit = commands.add_parser("fit", help="fit a style to a picture, and write it to a file that --picture takes")
    fit.add_argument("picture", type=Path)
    fit.add_argument("style", type=Path, help="the file to write, .safetensors")
    fit.add_argument("--name", help="up to 60 characters (default: the picture's file name)")
    fit.add_argument("--model", default="pocket", help="whose painter it is for (default: %(default)s)")
    models = commands.add_parser("models", help="list the models and which of them are present")
    models.add_argument("--looks", action="store_true", help="list the models' looks instead: name, group, prompt")
    models.add_argument("--json", action="store_true", help="one JSON object per line")
    models.add_argument("--check", metavar="MODEL", help="identify a name, folder or file, and report whether it would load")
    bench = commands.add_parser("bench", help="measure on this machine")
    bench.add_argument("rest", nargs=argparse.REMAINDER, help=f"arguments of benchmarks (try: {program()} bench --help)")
    return parser


def run_serve(args: argparse.Namespace) -> int:
    from studio.cli import serve

    return serve.main(args)


def run_render(args: argparse.Namespace) -> int:
    from studio.cli import render

    print(json.dumps(render.main(args)))
    return 0


def run_fit(args: argparse.Namespace) -> int:
    from pipelines import ModelParts, describe
    from studio.files.fit import fit_file

    made = fit_file(ModelParts(describe(args.model)), args.picture, args.style, args.name or args.picture.stem[:60])
    print(json.dumps({"style": str(args.style), "painter": made.painter, "steps": made.fitted}))
    return 0


def run_models(args: argparse.Namespace) -> int:
    from pipelines import REGISTRY
    from studio.model.catalogue import catalogue, lines_of, look_line, looks, table

    if args.looks:
        for look in looks(REGISTRY.values()):
            print(json.dumps(look) if args.json else look_line(look))
        return 0
    if args.check is not None:
        from pipelines import inspect_model

        report = inspect_model(args.check)
        loads = report.problem is None
        shown = json.dumps({"model": report.name, "loads": loads, "problem": report.problem, **report.facts})
        print(shown if args.json else "\n".join(lines_of(report)))
        return 0 if loads else 1
    entries = catalogue(REGISTRY.values())
    print("\n".join(map(json.dumps, entries) if args.json else table(entries)))
    return 0


def run_bench(args: argparse.Namespace) -> int:
    try:
        from benchmarks import cli
    except ModuleNotFoundError as error:
        if error.name != "benchmarks":
            raise
        print(f"{program()} bench: benchmarks are not part of the package; run app.py bench in a clone", file=sys.stderr)
        return 1
    return cli.main(args.rest)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "serve": run_serve,
    "render": run_render,
    "fit": run_fit,
    "models": run_models,
    "bench": run_bench,
}


def main(argv: Sequence[str]) -> int:
    from pipelines import RillError, SettingsError, SpecError

    arguments = list(argv)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments.insert(0, DEFAULT_COMMAND)
    if arguments[0] == "bench":  # benchmarks parse their own arguments, including --help
        return run_bench(argparse.Namespace(rest=arguments[1:]))
    args = build_parser().parse_args(arguments)
    try:
        return COMMANDS[args.command](args)
    except (SettingsError, SpecError) as error:
        print(f"{program()} {args.command}: {error}", file=sys.stderr)
        return 2
    except RillError as error:
        print(f"{program()} {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def console() -> int:
    """The console script `rill`."""
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(console())
