"""The style reader that training makes: HED's first convolutions, and a painter's own styles, each known by its texture."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import torch

from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.checkpoints.loader.style_reading import middle
from pipelines.checkpoints.naming import describe
from pipelines.networks.trunk import TrunkPainter
from tests.pipelines.engine.test_painted import LOOKS, add_painter
from training.painter import crops, hed, reader


@torch.no_grad()
def test_features_are_those_of_hed_as_far_as_they_go() -> None:
    features, x = hed.Features(), torch.rand(1, 3, 32, 32) * 2 - 1
    found = reader.texture_of(features)(x)
    wanted = features(x, 2)
    assert [tuple(f.shape[1:]) for f in found] == [(64, 32, 32), (128, 16, 16), (256, 8, 8)]
    for mine, theirs in zip(found, wanted, strict=False):
        torch.testing.assert_close(mine, theirs)


@torch.no_grad()
def test_what_a_known_style_paints_is_read_as_that_style(mini_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(mini_model, model)
    add_painter(model, LOOKS)
    rng = np.random.default_rng(3)
    paths = [tmp_path / f"{k}.png" for k in range(2)]
    for path in paths:
        cv2.imwrite(str(path), cv2.resize(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8), (400, 400)))
    made = reader.build(model, hed.Features(), paths)
    reader.export(made, model / "style_reader")
    parts = ModelParts(describe(str(model)))
    photograph = torch.from_numpy(cv2.resize(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8), (448, 448)))
    x = photograph.permute(2, 0, 1)[None] / 127.5 - 1
    for row, numbers in enumerate(parts.plain_styles):
        painted = parts.painter.float()(x, numbers[None])[0].permute(1, 2, 0)
        seen = parts.style_reader(((painted + 1) * 127.5).to(torch.uint8).numpy()).numbers[:-6]
        nearest = (parts.plain_styles[:, :-6] - torch.from_numpy(seen)).norm(dim=1).argmin()
        assert nearest == row


@torch.no_grad()
def test_a_trunks_style_gets_the_pictures_colours(tmp_path: Path, mini_model: Path) -> None:
    """Its last layer normalises nothing, so what it draws before its colours is measured when the reader is made."""
    model = tmp_path / "model"
    shutil.copytree(mini_model, model)
    torch.manual_seed(5)
    trunk = TrunkPainter(channels=8, num_blocks=1, half_channels=4, num_styles=3, looks={"a": {"0": 1.0}, "b": {"2": 1.0}})
    trunk.styles.data.normal_(1.0, 0.3)
    trunk.half().save_pretrained(model / "painter")
    rng = np.random.default_rng(3)
    paths = [tmp_path / f"{k}.png" for k in range(2)]
    for path in paths:
        cv2.imwrite(str(path), cv2.resize(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8), (400, 400)))
    reader.export(reader.build(model, hed.Features(), paths), model / "style_reader")
    shutil.copytree(Path("assets/pocket/calibration"), model / "calibration", dirs_exist_ok=True)
    parts = ModelParts(describe(str(model)))
    tinted = cv2.resize(rng.integers(40, 200, (24, 24, 3), dtype=np.uint8), (448, 448)) // np.array([1, 2, 4], np.uint8)
    contents = [middle(crops.load(path, reader.PAINTED), reader.PAINTED) for path in parts.calibration[:3]]
    style = torch.from_numpy(parts.style_reader(tinted).numbers)[None]
    painted = torch.cat([parts.painter.float()(content, style)[0].flatten(1) for content in contents], 1)
    means = ((painted + 1) * 127.5).mean(1).numpy()
    assert np.abs(means - tinted.mean((0, 1))).max() < 20
