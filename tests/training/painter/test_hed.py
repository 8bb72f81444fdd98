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
    monkeypatch.setattr(hed, "BLOCKS", ((3, 4, 4), (4, 6, 6), (6, 8, 8, 8), (8, 8, 8, 8), (8, 8, 8, 8)))
    rng = np.random.default_rng(0)
    (tmp_path / hed.MEMBER).parent.mkdir(parents=True)
    with h5py.File(tmp_path / hed.MEMBER, "w") as file:
        for k, widths in enumerate(hed.BLOCKS):
            for j, (a, b) in enumerate(pairwise(widths)):
                group = file.create_group(f"block{k + 1}/layers/conv2d{f'_{j}' if j else ''}/vars")
                group["0"] = rng.normal(0, (9 * a) ** -0.5, (3, 3, a, b)).astype(np.float32)
                group["1"] = rng.normal(0, 0.1, b).astype(np.float32)
            sides = file.create_group(f"dsn{k + 1}/vars")
            sides["0"] = rng.normal(0, widths[-1] ** -0.5, (1, 1, widths[-1], 1)).astype(np.float32)
            sides["1"] = rng.normal(0, 0.1, 1).astype(np.float32)
        file["fuse/vars/0"], file["fuse/vars/1"] = np.full((1, 1, 5, 1), 0.2, np.float32), np.zeros(1, np.float32)
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


@torch.no_grad()
def test_edges_are_the_fused_sides_of_all_blocks(package: Path) -> None:
    edges, x = hed.load_edges(package), torch.rand(2, 3, 32, 48) * 2 - 1
    found = edges(x)
    assert found.shape == (2, 1, 32, 48) and 0 <= found.min() < found.max() <= 1
    with h5py.File(package / hed.MEMBER) as file:
        sides = [
            F.interpolate(
                torch.einsum("bchw,c->bhw", feature, torch.from_numpy(file[f"dsn{k + 1}/vars/0"][0, 0, :, 0]))[:, None]
                + float(file[f"dsn{k + 1}/vars/1"][0]),
                (32, 48),
                mode="bilinear",
            )
            for k, feature in enumerate(edges.features(x, 5))
        ]
    torch.testing.assert_close(found, (0.2 * torch.stack(sides).sum(0)).sigmoid(), atol=1e-5, rtol=1e-4)
