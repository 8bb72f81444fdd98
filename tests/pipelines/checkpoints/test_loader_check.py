from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from pipelines import inspect_model
from tests.miniature import TOKENS, save_family
from tests.pipelines.checkpoints.configs import edit


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_family(tmp_path / "model", "sdxl")


def test_a_sound_folder_is_described(model: Path) -> None:
    report = inspect_model(str(model))
    assert report.problem is None
    assert report.facts["layout"] == "diffusers folder" and report.facts["prediction"] == "epsilon"
    assert report.facts["text"] == f"{TOKENS} tokens of 80, pooled to 24"
    assert report.facts["latents"] == "4 channels, AutoencoderKL"
    assert {"unet", "vae", "text_encoder", "text_encoder_2"} <= report.facts.keys()


def test_wrong_shapes_are_found_without_reading_weights(model: Path) -> None:
    edit(model / "unet" / "config.json", layers_per_block=1)
    assert "weights and configuration differ: unknown" in (inspect_model(str(model)).problem or "")
    edit(model / "unet" / "config.json", layers_per_block=2, block_out_channels=[64, 64])
    assert "has shape" in (inspect_model(str(model)).problem or "")


def test_missing_tensors_are_named(model: Path) -> None:
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    content = load_file(path)
    del content["decoder.conv_out.bias"]
    save_file(content, path)
    assert "missing decoder.conv_out.bias" in (inspect_model(str(model)).problem or "")


def test_networks_that_the_passes_cannot_compute_are_refused(model: Path) -> None:
    edit(model / "unet" / "config.json", class_embed_type="timestep")
    assert "class_embed_type" in (inspect_model(str(model)).problem or "")


def test_parts_must_fit_each_other(model: Path) -> None:
    edit(model / "text_encoder_2" / "config.json", projection_dim=25)
    assert "pools to 25" in (inspect_model(str(model)).problem or "")
    edit(model / "text_encoder" / "config.json", hidden_size=33)
    assert "texts of width 80; the text encoder makes 81" in (inspect_model(str(model)).problem or "")
    edit(model / "vae" / "config.json", latent_channels=8)
    assert "4 latent channels, the autoencoder makes 8" in (inspect_model(str(model)).problem or "")


def test_second_text_encoders_are_required(model: Path) -> None:
    index = json.loads((model / "model_index.json").read_text())
    del index["text_encoder_2"]
    (model / "model_index.json").write_text(json.dumps(index))
    assert "no entry 'text_encoder_2'" in (inspect_model(str(model)).problem or "")


@pytest.mark.parametrize("entry", ["../evil", ["..", "../evil"], ["evil.module", "Evil"], [1, 2], {"a": 1}])
def test_classes_of_the_index_are_known_ones(model: Path, entry: object) -> None:
    edit(model / "model_index.json", unet=entry)
    assert "model_index.json: unet" in (inspect_model(str(model)).problem or "")
