"""HED's weights become features of RGB pictures, though its file is for BGR in another order of axes."""

from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training.painter import hed


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file as the package has it, of a network with few channels."""
    monkeypatch.setattr(hed, "BLOCKS", ((3, 4, 4), (4, 6, 6), (6, 8, 8, 8), (8, 8, 8, 8)))
    rng = np.random.default_rng(0)
    (tmp_path / hed.MEMBER).parent.mkdir(parents=True)
    with h5py.File(tmp_path / hed.MEMBER, "w") as file:
        for k, widths in enumerate(hed.BLOCKS):
            for j, (a, b) in enumerate(pairwise(widths)):
                group = file.create_group(f"block{k + 1}/layers/conv2d{f'_{j}' if j else ''}/vars")
                group["0"] = rng.normal(0, (9 * a) ** -0.5, (3, 3, a, b)).astype(np.float32)
                group["1"] = rng.normal(0, 0.1, b).astype(np.float32)
    return tmp_path


@torch.no_grad()
def test_features_are_those_of_the_file_for_bgr(package: Path) -> None:
    features = hed.load(package)
    x = torch.rand(2, 3, 16, 24) * 2 - 1
    found = features(x, 4)
    assert [tuple(f.shape[1:]) for f in found] == [(4, 16, 24), (6, 8, 12), (8, 4, 6), (8, 2, 3)]
    bgr = ((x + 1) * 127.5).flip(1) - torch.tensor([104.00699, 116.66877, 122.67892]).reshape(1, 3, 1, 1)
    with h5py.File(package / hed.MEMBER) as file:
        h = bgr
        for name in ("conv2d", "conv2d_1"):
            layer = file[f"block1/layers/{name}/vars"]
            kernel = torch.from_numpy(np.array(layer["0"])).permute(3, 2, 0, 1)
            h = F.relu(F.conv2d(h, kernel, torch.from_numpy(np.array(layer["1"])), padding=1))
    torch.testing.assert_close(found[0], h, atol=1e-3, rtol=1e-4)


def test_features_are_frozen_but_let_gradients_through(package: Path) -> None:
    features = hed.load(package)
    x = torch.zeros(1, 3, 16, 16, requires_grad=True)
    features(x)[2].square().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in features.parameters())
