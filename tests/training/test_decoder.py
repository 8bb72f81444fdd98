"""The decoder's own training: a narrower start, and runs that resume."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.networks.cosine_autoencoder import CosineAutoencoder
from training.decoder import Config, School, Trainer, narrowed
from training.denoiser import Denoiser
from training.lessons import Dreams
from training.loop import Run
from training.painter.crops import Photograph
from training.painter.hed import Features
from training.scenes import SUBJECTS

TINY = Config(steps=4, width=16, looks=2, plain=1, dreams=1, side=64, window=32, warm=1)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def vae() -> CosineAutoencoder:
    torch.manual_seed(0)
    model = CosineAutoencoder(decoder_channels=(16, 16)).eval()
    torch.nn.init.normal_(model.decoder.conv_out.weight, std=0.05)
    return model.requires_grad_(False)


def trainer(vae: CosineAutoencoder, folder: Path) -> Trainer:
    torch.manual_seed(1)
    rng = np.random.default_rng(0)
    own = CosineAutoencoder.from_config(vae.config)
    own.load_state_dict(vae.state_dict())
    photographs = [Photograph("one", rng.integers(0, 256, (96, 80, 3), np.uint8), None)]
    dreams = Dreams(rng.integers(0, 256, (2 * len(SUBJECTS), 3, 128, 128), np.uint8), tuple(SUBJECTS))
    denoiser = Denoiser().eval().requires_grad_(False)
    school = School(TINY, denoiser, own.requires_grad_(False), photographs, dreams, ("photo", "thermal"))
    return Trainer(TINY, school, Features().requires_grad_(False), Run(folder))


@torch.no_grad()
def test_channels_without_weights_are_dropped_without_a_difference(vae: CosineAutoencoder) -> None:
    wide = CosineAutoencoder.from_config({**vae.config, "decoder_channels": (16, 24)})
    torch.nn.init.normal_(wide.decoder.conv_out.weight, std=0.05)
    dead = torch.arange(24) % 3 == 0
    block = wide.decoder.eighth[0]
    for conv in (wide.decoder.conv_in, block.conv1, block.conv2):
        conv.weight[dead], conv.bias[dead] = 0.0, 0.0
    z = torch.randn(1, 36, 4, 4)
    narrow = narrowed(wide, 16)
    assert narrow.config["decoder_channels"] == (16, 16)
    torch.testing.assert_close(narrow.decode(z).sample, wide.decode(z).sample)
    assert not torch.allclose(narrowed(wide, 12).decode(z).sample, wide.decode(z).sample)


def test_a_wider_one_is_refused(vae: CosineAutoencoder) -> None:
    with pytest.raises(ValueError, match="width is 32, allowed: up to 16"):
        narrowed(vae, 32)


def test_a_resumed_run_gives_the_weights_of_an_unbroken_one(vae: CosineAutoencoder, tmp_path: Path) -> None:
    whole = trainer(vae, tmp_path / "whole")
    start = [weight.clone() for weight in whole.decoder.parameters()]
    whole.train()
    parts = trainer(vae, tmp_path / "parts")
    for _ in range(2):
        parts.once()
        parts.step += 1
    parts.save()
    resumed = trainer(vae, tmp_path / "parts")
    assert resumed.step == 2
    resumed.train()
    for ours, theirs, before in zip(resumed.decoder.parameters(), whole.decoder.parameters(), start, strict=True):
        assert torch.equal(ours, theirs) and not torch.equal(ours, before)
    made = whole.averaged()
    assert torch.equal(made.analysis.weight, vae.analysis.weight), "latents stay as they are"
    assert not torch.equal(made.decoder.conv_out.weight, vae.decoder.conv_out.weight)
