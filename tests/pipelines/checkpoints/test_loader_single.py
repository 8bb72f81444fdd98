from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines import ModelError, ModelParts, describe
from pipelines.checkpoints.loader import networks, single, vocabulary
from pipelines.values.reader import read_json
from tests.ldm import write_single_file
from tests.miniature import save_family

FAMILIES = ("sd15", "sd21", "sdxl")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("single")
    return {family: save_family(root / family, family) for family in FAMILIES}


@pytest.fixture(autouse=True)
def miniature_layouts(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes of the miniatures in place of the published ones; everything else is the published layout."""
    for family, folder in folders.items():
        monkeypatch.setitem(single.LAYOUTS, family, folder)


def write(folders: dict[str, Path], tmp_path: Path, family: str) -> Path:
    metadata = {"modelspec.prediction_type": "epsilon"} if family == "sd21" else None
    return write_single_file(folders[family], tmp_path / f"{family}.safetensors", family, metadata)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_single_file_is_the_folder_it_was_made_of(folders: dict[str, Path], tmp_path: Path, family: str) -> None:
    parts = ModelParts(describe(str(write(folders, tmp_path, family))))
    expected = ModelParts(describe(str(folders[family])))
    for network in ("unet", "vae"):
        ours, theirs = getattr(parts, network).state_dict(), getattr(expected, network).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for got, wanted in zip(parts.encode_prompt("ink on paper"), expected.encode_prompt("ink on paper"), strict=True):
        torch.testing.assert_close(got, wanted)
    assert parts.empty_is_zero == expected.empty_is_zero
    assert len(parts.network_files) == 1 and parts.encoder_files == (), "the file is counted once"


def change(path: Path, name: str, value: torch.Tensor | None) -> None:
    content = load_file(path)
    if value is None:
        del content[name]
    else:
        content[name] = value
    save_file(content, path)


def test_unknown_layouts_are_refused_with_the_reason(folders: dict[str, Path], tmp_path: Path) -> None:
    cases = {
        "double_blocks.0.img_attn.qkv.weight": "Flux",
        "model.diffusion_model.joint_blocks.0.x.weight": "Stable Diffusion 3",
        "lora_unet_down_blocks_0.lora_down.weight": "a LoRA",
        "control_model.zero_convs.0.0.weight": "a ControlNet",
        "anything": "no known layout",
    }
    for name, words in cases.items():
        path = tmp_path / "other.safetensors"
        save_file({name: torch.zeros(2)}, path)
        with pytest.raises(ModelError, match=words):
            ModelParts(describe(str(path)))


@pytest.mark.parametrize("channels, words", [(5, "a depth model"), (7, "an upscaler")])
def test_models_that_take_more_channels_are_refused(folders: dict[str, Path], tmp_path: Path, channels: int, words: str) -> None:
    path = write(folders, tmp_path, "sd15")
    change(path, "model.diffusion_model.input_blocks.0.0.weight", torch.zeros(32, channels, 3, 3))
    with pytest.raises(ModelError, match=words):
        ModelParts(describe(str(path)))


def test_missing_and_wrong_tensors_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    path = write(folders, tmp_path, "sd15")
    change(path, "model.diffusion_model.out.2.weight", None)
    with pytest.raises(ModelError, match=r"missing conv_out.weight"):
        _ = ModelParts(describe(str(path))).unet
    path = write(folders, tmp_path, "sd15")
    change(path, "model.diffusion_model.out.2.weight", torch.zeros(4, 3, 3, 3))
    with pytest.raises(ModelError, match=r"conv_out.weight has shape \[4, 3, 3, 3\]"):
        _ = ModelParts(describe(str(path))).unet
    path = write(folders, tmp_path, "sdxl")
    change(path, "conditioner.embedders.1.model.ln_final.bias", None)
    with pytest.raises(ModelError, match="text_encoder_2"):
        ModelParts(describe(str(path))).encode_prompt("ink")
    path = write(folders, tmp_path, "sd15")
    for name in [name for name in load_file(path) if name.startswith("first_stage_model.")]:
        change(path, name, None)
    with pytest.raises(ModelError, match="no autoencoder"):
        ModelParts(describe(str(path)))


def test_files_that_are_not_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({}, path)
    with pytest.raises(ModelError, match=r"only .safetensors"):
        ModelParts(describe(str(path)))
    with pytest.raises(ModelError, match="no such model file"):
        ModelParts(describe(str(tmp_path / "absent.safetensors")))


def test_sd2_files_must_state_their_prediction(folders: dict[str, Path], tmp_path: Path) -> None:
    silent = write_single_file(folders["sd21"], tmp_path / "two.safetensors", "sd21")
    with pytest.raises(ModelError, match=r"\+epsilon"):
        ModelParts(describe(str(silent)))
    assert ModelParts(describe(f"{silent}+epsilon")).schedule.prediction == "epsilon"
    assert ModelParts(describe(f"{silent}+v_prediction")).schedule.prediction == "v_prediction"
    stated = write_single_file(folders["sd21"], tmp_path / "v.safetensors", "sd21", {"modelspec.prediction_type": "v"})
    assert ModelParts(describe(str(stated))).schedule.prediction == "v_prediction"


def test_sdxl_files_may_state_velocity_and_zero_terminal_snr_by_a_tensor(folders: dict[str, Path], tmp_path: Path) -> None:
    path = write(folders, tmp_path, "sdxl")
    assert ModelParts(describe(str(path))).schedule.prediction == "epsilon"
    change(path, "v_pred", torch.zeros(0))
    change(path, "ztsnr", torch.zeros(0))
    schedule = ModelParts(describe(str(path))).schedule
    assert schedule.prediction == "v_prediction" and schedule.signal[-1] < 1e-3


PUBLISHED_LAYOUTS = dict(single.LAYOUTS)
PARAMETERS = {  # millions, as published
    ("sd15", "unet"): 859.5,
    ("sd21", "unet"): 865.9,
    ("sdxl", "unet"): 2567.5,
    ("sd15", "vae"): 83.7,
    ("sdxl", "vae"): 83.7,
}


@pytest.mark.parametrize("family, part", PARAMETERS)
def test_the_shipped_configurations_have_the_published_sizes(family: str, part: str) -> None:
    config = read_json(PUBLISHED_LAYOUTS[family] / part / "config.json", part)
    network = networks.empty(config["_class_name"], config, part)
    assert sum(value.numel() for value in network.parameters()) / 1e6 == pytest.approx(PARAMETERS[family, part], abs=0.06)


TEXT_PARAMETERS = {("sd15", "text_encoder"): 123.1, ("sd21", "text_encoder"): 340.4, ("sdxl", "text_encoder_2"): 694.7}


@pytest.mark.parametrize("family, part", TEXT_PARAMETERS)
def test_the_shipped_text_encoders_have_the_published_sizes(family: str, part: str) -> None:
    import transformers

    config = transformers.CLIPTextConfig.from_pretrained(PUBLISHED_LAYOUTS[family] / part)
    cls = transformers.CLIPTextModelWithProjection if part.endswith("2") else transformers.CLIPTextModel
    with torch.device("meta"):
        count = sum(value.numel() for value in cls(config).parameters())
    assert count / 1e6 == pytest.approx(TEXT_PARAMETERS[family, part], abs=0.06)


def test_the_tokenizer_made_of_the_merges_is_clips() -> None:
    tokenizer = vocabulary.tokenizer(PUBLISHED_LAYOUTS["sd15"], 77, "<|endoftext|>")
    ids = tokenizer("a photo of a cat", padding="max_length", max_length=77, truncation=True).input_ids
    assert ids == [49406, 320, 1125, 539, 320, 2368, *[49407] * 71]  # as OpenAI's own tokenizer numbers them
    padded = vocabulary.tokenizer(PUBLISHED_LAYOUTS["sdxl"], 77, "!")("a cat", padding="max_length", max_length=8).input_ids
    assert padded == [49406, 320, 2368, 49407, 0, 0, 0, 0]
    assert len(tokenizer("x " * 200, max_length=77, truncation=True).input_ids) == 77
