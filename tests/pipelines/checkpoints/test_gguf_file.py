"""UNets in GGUF files, as the library gguf writes them, against diffusers' own reader of such files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from diffusers import GGUFQuantizationConfig, UNet2DConditionModel
from gguf.quants import quantize

from pipelines import ModelParts, describe, inspect_model
from pipelines.checkpoints.loader import single
from tests import ldm
from tests.miniature import save_family

KINDS = {kind.name: kind for kind in (gguf.GGMLQuantizationType[name] for name in ("Q8_0", "Q4_0", "Q5_1", "BF16", "F16"))}
BLOCK = 32


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = save_family(tmp_path / "model", "sd15")
    monkeypatch.setitem(single.LAYOUTS, "sd15", folder)
    return folder


def write(path: Path, unet: Path, kind: Any, prefix: str = "model.diffusion_model.", reshaped: bool = False) -> Path:
    """A UNet in the original layout whose matrices are quantised. reshaped: convolutions too, in rows of 32."""
    writer = gguf.GGUFWriter(path, "sd1")
    for name, tensor in ldm.unet(unet).items():
        numbers, name = tensor.float().numpy(), prefix + name
        if numbers.ndim == 2 and numbers.shape[1] % BLOCK == 0:
            writer.add_tensor(name, quantize(numbers, kind), raw_dtype=kind)
        elif reshaped and numbers.ndim == 4 and numbers.size % BLOCK == 0:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(numbers.shape))
            writer.add_tensor(name, quantize(numbers.reshape(-1, BLOCK), kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, np.ascontiguousarray(numbers))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("name", KINDS)
def test_outputs_are_those_of_diffusers(model: Path, tmp_path: Path, name: str) -> None:
    other = save_family(tmp_path / "other", "sd15", seed=9)
    path = write(tmp_path / "x.gguf", other / "unet", KINDS[name])
    whole = f"{model}+unet={path}"
    assert inspect_model(whole).problem is None
    ours = ModelParts(describe(whole)).unet.float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = UNet2DConditionModel.from_single_file(
            str(path),
            quantization_config=GGUFQuantizationConfig(compute_dtype=torch.float32),
            config=str(model),
            subfolder="unet",
            torch_dtype=torch.float32,
            local_files_only=True,
        )
    x, text = torch.randn(1, 4, 16, 16), torch.randn(1, 8, 32)
    with torch.no_grad():
        got, expected = (unet(x, 500, encoder_hidden_states=text).sample for unet in (ours, theirs))
        plain = UNet2DConditionModel.from_pretrained(other / "unet")(x, 500, encoder_hidden_states=text).sample
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert (got - plain).abs().max() < 0.5 * plain.abs().max()


def test_names_may_have_no_prefix_and_tensors_another_shape(model: Path, tmp_path: Path) -> None:
    kind = KINDS["Q8_0"]
    path = write(tmp_path / "x.gguf", model / "unet", kind, prefix="", reshaped=True)
    ours = ModelParts(describe(f"{model}+unet={path}")).unet.state_dict()
    for name, value in UNet2DConditionModel.from_pretrained(model / "unet").state_dict().items():
        torch.testing.assert_close(ours[name].float(), value, rtol=0, atol=float(value.abs().max()) / 100)


def test_a_kind_that_diffusers_does_not_read_is_named(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(path, "sd1")
    writer.add_tensor("input_blocks.0.0.weight", np.zeros((1, 66), np.uint8), raw_dtype=gguf.GGMLQuantizationType.IQ2_XXS)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    problem = inspect_model(f"{model}+unet={path}").problem or ""
    assert "x.gguf: input_blocks.0.0.weight is quantised as IQ2_XXS; supported are " in problem


def test_a_whole_model_is_refused_and_a_broken_file_is_named(model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "x.gguf", model / "unet", KINDS["Q8_0"])
    assert "is a GGUF file; Rill reads the UNet of one, beside a whole model: MODEL+unet=x.gguf" in (
        inspect_model(str(path)).problem or ""
    )
    content = path.read_bytes()
    for cut in (3, 20, 100, 2000, len(content) - 64):
        path.write_bytes(content[:cut])
        assert "x.gguf: is not a readable GGUF file" in (inspect_model(f"{model}+unet={path}").problem or ""), cut
    huge = bytearray(content)
    huge[8:16] = b"\xff" * 8  # the number of tensors
    path.write_bytes(bytes(huge))
    assert "x.gguf: is not a readable GGUF file" in (inspect_model(f"{model}+unet={path}").problem or "")
    path.write_bytes(b"")
    assert "x.gguf: is" in (inspect_model(f"{model}+unet={path}").problem or "")
