import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipelines import ModelError, ModelParts, describe
from tests.pipelines.checkpoints.configs import edit


@pytest.fixture
def model(mini_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mini_model, tmp_path / "model"))


def drop(path: Path, key: str) -> None:
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))


def pickle_only(model: Path) -> None:
    (model / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, model / "unet" / "diffusion_pytorch_model.bin")


def leave(model: Path) -> None:
    outside = model.parent / "outside"
    shutil.move(model / "unet", outside)
    (model / "unet").symlink_to(outside)


def leave_by_file(model: Path) -> None:
    weights = model / "vae" / "diffusion_pytorch_model.safetensors"
    shutil.move(weights, model.parent / "w.safetensors")
    weights.symlink_to(model.parent / "w.safetensors")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda m: shutil.rmtree(m), "no such model folder"),
    "no index": (lambda m: (m / "model_index.json").unlink(), "has no model_index.json"),
    "index is no JSON": (lambda m: (m / "model_index.json").write_text("{"), "model_index.json: is not readable"),
    "index is a list": (lambda m: (m / "model_index.json").write_text("[]"), "not a JSON object"),
    "no unet entry": (lambda m: drop(m / "model_index.json", "unet"), "'unet'"),
    "no unet": (lambda m: shutil.rmtree(m / "unet"), "unet/config.json: is missing"),
    "pickle": (pickle_only, "pickled"),
    "no weights": (lambda m: (m / "vae" / "diffusion_pytorch_model.safetensors").unlink(), "vae: no .safetensors"),
    "other network": (lambda m: edit(m / "unet" / "config.json", _class_name="Transformer"), "Transformer"),
    "other autoencoder": (lambda m: edit(m / "model_index.json", vae=["diffusers", "AutoencoderX"]), "AutoencoderX"),
    "prediction": (lambda m: edit(m / "scheduler" / "scheduler_config.json", prediction_type="magic"), "prediction_type"),
    "symlinked folder": (leave, "leads out of the model folder"),
    "symlinked file": (leave_by_file, "leads out of the model folder"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_folders_are_refused_by_name(model: Path, case: str) -> None:
    damage, message = BROKEN[case]
    damage(model)
    with pytest.raises(ModelError, match=message):
        ModelParts(describe(str(model)))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_truncated_weights_are_refused_at_once(model: Path, part: str) -> None:
    weights = next((model / part).glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=f"{part}.*truncated"):
        ModelParts(describe(str(model)))


def test_wrong_shapes_are_refused(model: Path) -> None:
    edit(model / "unet" / "config.json", block_out_channels=[32, 64])
    with pytest.raises(ModelError, match="unet"):
        _ = ModelParts(describe(str(model))).unet


@pytest.mark.parametrize(("part", "network"), [("unet", "unet"), ("vae", "autoencoder")])
@pytest.mark.parametrize("change", ["weights", "configuration"])
def test_each_fingerprint_follows_its_own_network(model: Path, part: str, network: str, change: str) -> None:
    before = ModelParts(describe(str(model))).fingerprints
    assert ModelParts(describe(str(model))).fingerprints == before
    if change == "weights":
        weights = model / part / "diffusion_pytorch_model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(bytes(content))
    else:
        edit(model / part / "config.json", act_fn="gelu")
    after = ModelParts(describe(str(model))).fingerprints
    assert after != before and replace(after, **{network: getattr(before, network)}) == before


def test_the_fingerprint_follows_the_length_of_texts(model: Path) -> None:
    """Graphs have it in their shapes, so two models with the same UNet and other text encoders share none on disk."""
    before = ModelParts(describe(str(model)))
    edit(model / "text_encoder" / "config.json", max_position_embeddings=before.embedding_shape[0] + 8)
    assert ModelParts(describe(str(model))).fingerprints.unet != before.fingerprints.unet


def test_prompts_become_embeddings(model: Path) -> None:
    parts = ModelParts(describe(str(model)))
    (a,), (b,) = parts.encode_prompt("ink"), parts.encode_prompt("a very long prompt " * 30)
    assert a.shape == b.shape == parts.embedding_shape
    assert a.isfinite().all() and not torch.equal(a, b)
    assert parts.encode_prompt("")[0].shape == a.shape
