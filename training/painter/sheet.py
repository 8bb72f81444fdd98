"""Sheets of held-out photographs in the painter's looks beside the teacher's, and the meter's figures of them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch

from pipelines.networks.trunk import TrunkPainter
from training.painter import crops, meter
from training.painter.judge import difference, picture
from training.painter.lessons import Looks
from training.painter.repaint import SIDE, middle
from training.painter.teacher import Teacher

SHOWN = 6  # looks of each kind on one sheet; each sheet shows the next ones


def held_out(paths: list[Path]) -> list[crops.Picture]:
    return [middle(crops.load(path, SIDE)) for path in paths]


class Sheets:
    """Writes sheet-STEP.jpg and a line of sheets.jsonl into a run's folder."""

    def __init__(self, folder: Path, photographs: list[crops.Picture], looks: Looks, teacher: Teacher) -> None:
        self.folder, self.photographs, self.looks, self.teacher = folder, photographs, looks, teacher
        self.lines = folder / "sheets.jsonl"
        # A resumed run goes on with the next looks.
        self.turn = len(self.lines.read_text(encoding="utf-8").splitlines()) if self.lines.exists() else 0

    @torch.no_grad()
    def __call__(self, model: TrunkPainter, step: int) -> None:
        names = [self._next(tuple(self.looks.published)), self._next(self.looks.paintings)]
        self.turn += 1
        rows, figures = [], {}
        for k, photograph in enumerate(self.photographs):
            x = crops.tensor([photograph])
            tiles: list[list[crops.Picture]] = [[photograph], [photograph]]
            for look in names[0]:
                ours = picture(model(x, model.style(look)[None])[0])
                theirs = picture(self.teacher.paint(x[0], look))
                tiles[0].append(theirs)
                tiles[1].append(ours)
                figures[f"{look}/{k}"] = self._figures(ours, theirs, photograph)
            painted = [picture(model(x, model.style(look)[None])[0]) for look in names[1]]
            for look, ours in zip(names[1], painted, strict=True):
                figures[f"{look}/{k}"] = self._figures(ours, None, photograph)
            rows += [np.concatenate(tiles[0], 1), np.concatenate(tiles[1], 1)]
            if painted:
                rows.append(np.concatenate([photograph, *painted], 1))
        width = max(row.shape[1] for row in rows)
        padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
        sheet = cv2.cvtColor(np.concatenate(padded), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(self.folder / f"sheet-{step:06}.jpg"), sheet, [cv2.IMWRITE_JPEG_QUALITY, 92])
        with self.lines.open("a") as file:
            file.write(json.dumps({"step": step, "looks": names, "figures": figures}) + "\n")

    def _next(self, looks: tuple[str, ...]) -> list[str]:
        shown = min(SHOWN, len(looks))
        return [looks[(self.turn * shown + k) % len(looks)] for k in range(shown)]

    @staticmethod
    def _figures(ours: crops.Picture, theirs: crops.Picture | None, photograph: crops.Picture) -> dict[str, object]:
        found: dict[str, object] = {"lattice": round(meter.lattice(ours), 2)}
        found["grain"] = np.round(meter.grain(ours, photograph), 1).tolist()
        if theirs is not None:
            found["teacher lattice"] = round(meter.lattice(theirs), 2)
            found["teacher grain"] = np.round(meter.grain(theirs, photograph), 1).tolist()
            found["difference"] = round(difference(ours, theirs), 1)
        return found
