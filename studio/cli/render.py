"""The command `render`: checks its arguments and files, then runs the engine."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipelines import SpecError, media
from studio.cli.arguments import file_options_of, graph_limits_of, safety_of, settings_of, spec_of
from studio.environment import cache_dir
from studio.files import recording
from studio.model.prompt_loras import lora_files, tagged

if TYPE_CHECKING:
    from studio.files.exchange import FileOptions


def main(args: argparse.Namespace) -> dict[str, Any]:
    """The closing JSON object. Raises SettingsError, SpecError and other RillErrors, before anything slow where that can be."""
    spec, settings = spec_of(args), settings_of(args)
    timeline = recording.read_timeline(args.timeline) if args.timeline else ()
    replay = None if args.replay is None else recording.read(args.replay)
    spec = replace(spec, loras=tagged(spec.loras, settings, lora_files(args.lora_folder)))
    if not args.input.exists():
        raise media.MediaError(f"{args.input}: no such file")
    media.check_output(args.output)
    if args.input.resolve() == args.output.resolve():
        raise SpecError("OUTPUT", "is the same file as INPUT")
    from pipelines import load  # torch: wrong arguments do not wait for it
    from studio.files.exchange import warnings
    from studio.files.render import Plan, render

    files = file_options_of(args)
    plan = Plan(settings, timeline, args.mask, picture=args.picture, picture_b=args.picture_b, files=files)
    if replay is not None:
        spec, plan = replay.spec, Plan(replay.settings, replay.moments, replay=replay, files=_recorded(args, replay, files))
    pipeline = load(spec, cache_dir(), args.offline, safety_of(args), graphs=graph_limits_of(args))
    pipeline.check(plan.settings)
    result, made = render(pipeline, plan, args.input, args.output)
    for line in warnings(args.input, result):
        print(f"render: {line}", file=sys.stderr)
    if args.record is not None:
        recording.write(made, args.record)
    return result


def _recorded(args: argparse.Namespace, replay: recording.Recording, given: FileOptions) -> FileOptions:
    """How a replay reads the input: as the record says. An older record does not say it. Raises SpecError for other options."""
    if replay.files is None:
        return given
    for name in ("fit", "background", "fps"):
        if getattr(args, name) is not None:
            raise SpecError(f"--{name}", "a replay takes it from the record; leave it out")
    return replace(replay.files, audio=replay.files.audio and args.audio)
