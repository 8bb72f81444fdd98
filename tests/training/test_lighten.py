"""A lighter autoencoder: what it keeps, what it refuses, and that a few steps bring it towards the old one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Generator

from pipelines.autoencoder import PocketAutoencoder
from training.denoiser import Denoiser
from training.lighten import Lesson, lightened, train
from training.loop import Run


def small() -> PocketAutoencoder:
    torch.manual_seed(3)
    return PocketAutoencoder(
        encoder_channels=(8, 8), encoder_blocks=(2, 2), decoder_channels=(8, 8), decoder_blocks=(2, 2), latent_channels=4
    )  # fmt: skip


def test_it_keeps_the_first_blocks_of_every_stage() -> None:
    vae = small()
    light = lightened(vae, (1, 2), (2, 1))
    assert [len(light.encoder.quarter), len(light.encoder.eighth)] == [1, 2]
    assert [len(light.decoder.quarter), len(light.decoder.eighth)] == [2, 1]
    assert torch.equal(light.decoder.eighth[0].conv1.weight, vae.decoder.eighth[0].conv1.weight)
    assert torch.equal(light.encoder.conv_out.weight, vae.encoder.conv_out.weight)
    assert light.config["decoder_blocks"] == [2, 1]
    whole = lightened(vae, (2, 2), (2, 2))
    x = torch.rand(1, 3, 32, 32, generator=Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(whole(x), vae(x))


def test_it_cannot_keep_blocks_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="decoder_blocks"):
        lightened(small(), (1, 1), (3, 1))


def test_training_brings_its_latents_nearer_to_the_old_ones_and_resumes(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        store = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8), 8, 2), 8, 3)
        vae, model = small(), Denoiser(4)

        def trained(run: Run, steps: int, save_every: int = 1000) -> PocketAutoencoder:
            light = lightened(vae, (1, 1), (1, 1))
            train(run, Lesson(light, model, vae, ["oil painting", "photo"], 2), store, steps, 0, 64, save_every)
            return light

        light = trained(Run(tmp_path / "run"), 30)
        x = torch.from_numpy(store).float() / 127.5 - 1
        with torch.no_grad():
            target = vae.encode(x).latents
            before = F.mse_loss(lightened(vae, (1, 1), (1, 1)).encode(x).latents, target)
            after = F.mse_loss(light.encode(x).latents, target)
        assert after < 0.5 * before
        again = trained(Run(tmp_path / "run"), 30)  # already there: no step more
        assert all(torch.equal(a, b) for a, b in zip(light.parameters(), again.parameters(), strict=True))
    finally:
        torch.set_num_threads(threads)
