"""The last stage: a narrower decoder to start from, what is trained, and runs that resume."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.networks.cosine_autoencoder import CosineAutoencoder
from training.denoiser import Denoiser
from training.finetune import Config, Finetuning, Model, narrowed
from training.lessons import Dreams
from training.loop import Run, averaged, optimise, step_rng
from training.painter.crops import Photograph
from training.scenes import SUBJECTS

TINY = Config(steps=2, width=16, looks=1, plain=1, dreams=1, side=64, warmup=1)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def decoder(eighth: int) -> CosineAutoencoder:
    torch.manual_seed(0)
    model = CosineAutoencoder(decoder_channels=(16, eighth)).eval()
    torch.nn.init.normal_(model.decoder.conv_out.weight, std=0.05)
    return model


def finetuning(config: Config = TINY) -> Finetuning:
    torch.manual_seed(1)
    rng = np.random.default_rng(0)
    photographs = [Photograph("one", rng.integers(0, 256, (96, 80, 3), np.uint8), None)]
    dreams = Dreams(rng.integers(0, 256, (2 * len(SUBJECTS), 3, 256, 256), np.uint8), tuple(SUBJECTS))
    model = Model(Denoiser().eval(), decoder(16))
    return Finetuning(config, model, photographs, dreams, ("photo", "thermal"))


def run(folder: Path, stop_at: int | None = None) -> Model:
    made = finetuning()
    optimise(
        Run(folder),
        made.model,
        made.loss,
        seed=0,
        steps=TINY.steps,
        peak=TINY.peak,
        warmup=1,
        average=0.5,
        parts=1,
        stop_at=stop_at,
    )
    return made.model


@torch.no_grad()
def test_channels_without_weights_are_dropped_without_a_difference() -> None:
    wide = decoder(24)
    dead = torch.arange(24) % 3 == 0
    block = wide.decoder.eighth[0]
    for conv in (wide.decoder.conv_in, block.conv1, block.conv2):
        conv.weight[dead], conv.bias[dead] = 0.0, 0.0
    z = torch.randn(1, 36, 4, 4)
    narrow = narrowed(wide, 16)
    assert narrow.config["decoder_channels"] == (16, 16)
    torch.testing.assert_close(narrow.decode(z).sample, wide.decode(z).sample)
    assert not torch.allclose(narrowed(wide, 12).decode(z).sample, wide.decode(z).sample)
    with pytest.raises(ValueError, match="width is 32, allowed: up to 24"):
        narrowed(wide, 32)


def test_a_resumed_run_gives_the_weights_of_an_unbroken_one_and_trains_no_more_than_it_should(tmp_path: Path) -> None:
    start = finetuning().model.state_dict()
    run(tmp_path / "whole")
    run(tmp_path / "parts", stop_at=1)
    run(tmp_path / "parts")
    whole, parts = (averaged(Run(tmp_path / name), Model(Denoiser(), decoder(16))).state_dict() for name in ("whole", "parts"))
    changed = {name for name, value in whole.items() if not torch.equal(value, start[name])}
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    assert {"vae.decoder.conv_out.weight", "vae.synthesis.weight", "denoiser.unet.conv_out.weight"} <= changed
    frozen = ("vae.analysis", "vae.latent", "denoiser.text_encoder")
    assert not [name for name in changed if name.startswith(frozen) or name.endswith(".place")]


def test_scenes_are_held_where_they_are_and_photographs_are_not() -> None:
    made = finetuning(replace(TINY, photographs=1.0))
    _, figures = made.loss(1, step_rng(0, 1))
    assert figures["dreams"] == 0.0 and figures["latents"] > 0.0
    with torch.no_grad():
        made.model.denoiser.unet.conv_out.weight.mul_(1.1)
    _, figures = made.loss(1, step_rng(0, 1))
    assert figures["dreams"] > 0.0
