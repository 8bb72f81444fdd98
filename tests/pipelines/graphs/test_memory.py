"""The estimate against plain sums over tensors, and refusals before anything is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipelines import MemoryShortError, ModelError, SpecError, StreamSpec, load
from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.checkpoints.naming import describe
from pipelines.engine import engine
from pipelines.graphs import memory
from pipelines.graphs.memory import Need, Stored, activations, estimate, estimate_of, require, stored, stored_in
from tests.miniature import save_adapter, save_control, save_family

SPEC = StreamSpec("x", 512, 512, "eager", "float32", "cpu", 1)
SD15: dict[str, Any] = {"layers_per_block": 2, "block_out_channels": [320, 640, 1280, 1280]}
TINY: dict[str, Any] = {"decoder_block_out_channels": [64, 64, 64, 64]}


def test_parameters_are_counted_without_reading_them(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    tensors = {"a": torch.zeros(3, 5, 7), "b": torch.zeros(11, dtype=torch.float16), "s": torch.tensor(1.0)}
    save_file(tensors, path, metadata={"format": "pt"})
    assert stored(path) == Stored(3 * 5 * 7 + 11 + 1, 4 * 3 * 5 * 7 + 2 * 11 + 4, 3)
    assert stored_in([path, path]) == Stored(2 * stored(path).count, 2 * stored(path).bytes, 6) and stored_in([]) == Stored()


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 7, b"\xff" * 8, (5).to_bytes(8, "little") + b"{]}[]", (2).to_bytes(8, "little") + b"[]"]
    + [(len(text)).to_bytes(8, "little") + text for text in (b'{"a": {}}', b'{"a": {"shape": [2], "data_offsets": []}}')],
)
def test_files_that_are_no_weights(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "unet" / "w.safetensors"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"unet/w\.safetensors"):
        stored(path)


def test_a_file_that_was_cut_short_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="is truncated"):
        stored(path)


def numbers(module: torch.nn.Module) -> int:
    return sum(value.numel() for value in module.state_dict().values())


def test_the_miniature_counts_as_its_modules_do(mini_model: Path) -> None:
    parts = ModelParts(describe(str(mini_model)))
    networks, texts = stored_in(parts.network_files), stored_in(parts.encoder_files)
    count, tensors = (sum(of(module) for module in (parts.unet, parts.vae)) for of in (numbers, lambda m: len(m.state_dict())))
    assert networks == Stored(count, 4 * count, tensors)
    assert texts.count == numbers(parts.checkpoint.text_encoder("text_encoder")[1])
    spec = StreamSpec(str(mini_model), 128, 128, "eager", "float32", "cpu")
    assert estimate_of(parts, spec) == estimate(networks, texts, parts.unet_config, parts.vae_config, spec)


def test_what_conditions_a_picture_counts_too(tmp_path: Path) -> None:
    model = save_family(tmp_path / "model", "sd15", dtype=torch.float16)
    control, adapter = save_control(tmp_path / "control", "sd15"), save_adapter(tmp_path / "adapter", "sd15")
    plain = ModelParts(describe(str(model)))
    whole = ModelParts(describe(f"{model}+control={control}+picture={adapter}"))
    added = stored_in(set(whole.network_files) - set(plain.network_files))
    assert added.count == numbers(whole.controls[0]) + stored(adapter / "ip-adapter.safetensors").count
    assert set(whole.encoder_files) - set(plain.encoder_files) == {adapter / "image_encoder/model.safetensors"}


def test_activations_of_stable_diffusion() -> None:
    # Four levels of three skips each, and the feed-forward of the widest: 320 channels at 64x64.
    skips = 3 * (320 * 64**2 + 640 * 32**2 + 1280 * 16**2 + 1280 * 8**2)
    unet = skips + 8 * 320 * 64**2
    decoder = 4 * 64 * 512**2
    assert activations(SD15, TINY, 512, 512, rows=1) == max(unet, decoder) == decoder
    assert activations(SD15, TINY, 512, 512, rows=4) == 4 * unet
    assert activations(SD15, {"block_out_channels": [128, 256, 512, 512]}, 512, 512, rows=1) == 4 * 256 * 512**2
    assert activations({**SD15, "layers_per_block": [2] * 4}, TINY, 512, 512, 4) == 4 * unet
    assert activations(SD15, TINY, 1024, 512, 4) == 2 * activations(SD15, TINY, 512, 512, 4)


GB = 1_000_000_000


def test_what_each_place_needs() -> None:
    held = activations(SD15, TINY, 512, 512, 1)
    networks, texts = Stored(GB, 2 * GB, 1000), Stored(GB // 10, GB // 5, 100)
    many = Stored(GB, 4 * GB, 100)

    def need(networks: Stored = networks, texts: Stored = texts, vae: Mapping[str, Any] = TINY, **spec: Any) -> tuple[Need, ...]:
        return estimate(networks, texts, SD15, vae, replace(SPEC, **spec))

    # Converted while the file is still mapped; the texts come after, and are mapped while they are converted.
    assert need() == (Need("cpu", 4 * GB + 2 * GB, 0),)
    assert need(texts=many) == (Need("cpu", 4 * GB + 4 * GB + 4 * GB, 0),)
    assert need(dtype="bfloat16", networks=Stored(GB, GB // 2, 9), texts=Stored(GB, 0)) == (
        Need("cpu", 2 * GB + 4 * GB, 2 * held),
    )
    # OpenVINO: the torch weights in float32, the compiled ones, and 0.7 MB for each tensor; a text encoder and its graph.
    openvino = {"backend": "openvino", "dtype": "bfloat16"}
    assert need(**openvino) == (Need("cpu", 6 * GB + 7 * GB // 10 + GB // 5 + 2 * (4 * GB // 10), 0),)
    assert need(**openvino, texts=Stored()) == (Need("cpu", 6 * GB + 7 * GB // 10, 3 * held),)
    assert need(**openvino, texts=many) == (Need("cpu", 6 * GB + 7 * GB // 10 + 4 * GB + 8 * GB, 0),)
    # A small network with a full autoencoder: its decoder's trace, in float32, counts.
    small, full = Stored(1_000_000, 2_000_000, 10), {"_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512]}
    assert need(**openvino, networks=small, texts=Stored(), vae=full) == (Need("cpu", 7_000_000, 4 * 8 * 256 * 512**2),)
    gpu = {"backend": "compile", "dtype": "float16", "device": "cuda:1"}
    assert need(**gpu) == (Need("cpu", 2 * GB, 0), Need("cuda:1", 2 * GB, 4 * held))


def gib(count: int) -> float:
    return count / (1 << 30)


# What the files of `app.py bench loading` hold, and by what their widths are divided.
SD_TURBO = (Stored(949_564_587, 1_899_129_174, 934), Stored(340_387_840, 680_775_680, 372), 1)
HALF = (Stored(237_539_979, 475_079_958, 934), Stored(97_842_176, 195_684_352, 372), 2)


@pytest.mark.parametrize(
    ("shape", "backend", "dtype", "measured"),
    [
        (SD_TURBO, "openvino", "bfloat16", 7.95),
        (SD_TURBO, "eager", "bfloat16", 3.69),
        (HALF, "openvino", "bfloat16", 2.66),
        (HALF, "openvino", "float32", 3.47),
        (HALF, "eager", "bfloat16", 1.21),
        (HALF, "eager", "float32", 1.82),
    ],
)
def test_what_was_measured_lies_near_the_estimate(
    shape: tuple[Stored, Stored, int], backend: str, dtype: str, measured: float
) -> None:
    networks, texts, by = shape
    unet = {"layers_per_block": 2, "block_out_channels": [width // by for width in SD15["block_out_channels"]]}
    vae = {"_class_name": "AutoencoderKL", "block_out_channels": [width // by for width in (128, 256, 512, 512)]}
    (need,) = estimate(networks, texts, unet, vae, replace(SPEC, backend=backend, dtype=dtype, max_steps=4))
    assert 0.8 < measured / gib(need.total) < 1.2


def test_a_need_that_does_not_fit_names_both_numbers() -> None:
    needs = (Need("cpu", 10**9, 0), Need("cuda", 3 * 10**9, 400_000_000))
    require(needs, lambda place: 3_400_000_000)
    with pytest.raises(MemoryShortError) as caught:
        require(needs, lambda place: 3_399_000_000 if place == "cuda" else 10**10)
    assert str(caught.value) == ("needs about 3.4 GB of memory on cuda (weights 3.0 GB, activations 400 MB); 3.4 GB are free")
    with pytest.raises(MemoryShortError, match=r"1\.0 GB of memory \(weights 1\.0 GB, activations 0 MB\); 270 MB are free"):
        require(needs, lambda place: 270_000_000)


def test_what_is_free_here() -> None:
    total = int(next(line for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line).split()[1]) * 1024
    assert 0 < memory.free_bytes("cpu") < total


def test_nothing_is_read_that_would_not_fit(mini_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda place: 1_000_000)
    monkeypatch.setattr(engine, "StreamPipeline", None)
    with pytest.raises(MemoryShortError, match="1 MB are free"):
        load(StreamSpec(str(mini_model), 128, 128, "eager", "float32"))


def test_a_size_that_the_model_cannot_halve_often_enough(mini_model: Path, tmp_path: Path) -> None:
    assert ModelParts(describe(str(mini_model))).size_multiple == 16
    copy = shutil.copytree(mini_model, tmp_path / "deep")
    config = json.loads((copy / "unet/config.json").read_text())
    config["down_block_types"] = ["DownBlock2D"] * 5
    (copy / "unet/config.json").write_text(json.dumps(config))
    with pytest.raises(SpecError, match=r"height: 192 does not fit this model; multiples of 128 do"):
        load(StreamSpec(str(copy), 256, 192, "eager", "float32"))
