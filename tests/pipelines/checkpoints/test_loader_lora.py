"""LoRA fused at load against weights merged by hand: W + strength · α/r · B·A."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipelines import ModelError, ModelParts, describe
from tests.miniature import save_family

RANK = 2
LINEAR = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "down_blocks.0.resnets.0.conv1"
TEXT = "encoder.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(tmp_path_factory.mktemp("lora") / "model", "sd15")


def factors(parts: ModelParts) -> dict[str, tuple[Tensor, Tensor]]:
    """(A, B) for a linear layer, a convolution, and a layer of the text encoder."""
    generator = torch.Generator().manual_seed(1)
    unet = parts.unet.state_dict()
    (out, width), conv = unet[f"{LINEAR}.weight"].shape, unet[f"{CONV}.weight"].shape
    shapes = {
        f"unet.{LINEAR}": ((RANK, width), (out, RANK)),
        f"unet.{CONV}": ((RANK, *conv[1:]), (conv[0], RANK, 1, 1)),
        f"text_encoder.text_model.{TEXT}": ((RANK, 32), (32, RANK)),
    }
    return {name: tuple(torch.randn(shape, generator=generator) for shape in pair) for name, pair in shapes.items()}


def as_diffusers(pairs: dict[str, tuple[Tensor, Tensor]], alpha: float | None = None) -> dict[str, Tensor]:
    """The layout of diffusers' trainers and of the published LCM-LoRA's successors."""
    content = {f"{name}.lora_A.weight": a for name, (a, _) in pairs.items()}
    content |= {f"{name}.lora_B.weight": b for name, (_, b) in pairs.items()}
    if alpha is not None:
        content |= {f"{name}.alpha": torch.tensor(alpha) for name in pairs}
    return content


def as_kohya(pairs: dict[str, tuple[Tensor, Tensor]], alpha: float) -> dict[str, Tensor]:
    """The layout of kohya's trainer: LCM-LoRA, Hyper-SD, SDXL-Lightning and nearly all community files."""
    content: dict[str, Tensor] = {}
    for name, (a, b) in pairs.items():
        flat = name.replace("unet.", "lora_unet_").replace("text_encoder.", "lora_te_").replace(".", "_")
        content |= {f"{flat}.lora_down.weight": a, f"{flat}.lora_up.weight": b, f"{flat}.alpha": torch.tensor(alpha)}
    return content


def merged(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    if weight.ndim == 2:
        return weight + scale * b @ a
    return weight + scale * torch.einsum("or,rikl->oikl", b[:, :, 0, 0], a)


@pytest.mark.parametrize("layout, alpha", [("diffusers", None), ("kohya", 1.0), ("kohya", 4.0)])
@pytest.mark.parametrize("strength", [0.0, 0.7, 1.5])
def test_fused_weights_are_the_merged_ones(
    model: Path, tmp_path: Path, layout: str, alpha: float | None, strength: float
) -> None:
    plain = ModelParts(describe(str(model)))
    pairs = factors(plain)
    path = tmp_path / "style.safetensors"
    save_file(as_diffusers(pairs) if alpha is None else as_kohya(pairs, alpha), path)
    parts = ModelParts(describe(f"{model}+{path}:{strength}"))
    scale = strength * (1.0 if alpha is None else alpha / RANK)
    before, after = plain.unet.state_dict(), parts.unet.state_dict()
    assert before.keys() == after.keys()
    for name, weight in before.items():
        pair = pairs.get(f"unet.{name.removesuffix('.weight')}")
        torch.testing.assert_close(after[name], weight if pair is None else merged(weight, *pair, scale), rtol=1e-5, atol=1e-5)
    encoder = plain.checkpoint.text_encoder("text_encoder")[1]
    weight = encoder.get_submodule(TEXT).weight.data
    weight.copy_(merged(weight, *pairs[f"text_encoder.text_model.{TEXT}"], scale))
    plain.checkpoint.text_encoder = lambda part: (ModelParts(describe(str(model))).checkpoint.text_encoder(part)[0], encoder)  # type: ignore[method-assign]
    torch.testing.assert_close(parts.encode_prompt("ink")[0], plain.encode_prompt("ink")[0], rtol=1e-4, atol=1e-4)


def test_two_loras_add_up_and_strength_is_in_the_fingerprint(model: Path, tmp_path: Path) -> None:
    plain = ModelParts(describe(str(model)))
    pairs = {name: pair for name, pair in factors(plain).items() if name.startswith("unet")}
    path = tmp_path / "a+b.safetensors"  # a plus sign in a path's own name
    save_file(as_kohya(pairs, RANK), path)
    other = tmp_path / "b.safetensors"
    other.write_bytes(path.read_bytes())
    both = ModelParts(describe(f"{model}+{other}:0.5+{other}:0.25"))
    a, b = pairs[f"unet.{LINEAR}"]
    torch.testing.assert_close(
        both.unet.state_dict()[f"{LINEAR}.weight"], merged(plain.unet.state_dict()[f"{LINEAR}.weight"], a, b, 0.75)
    )
    prints = {ModelParts(describe(f"{model}{end}")).fingerprints.unet for end in ("", f"+{other}", f"+{other}:0.5")}
    assert len(prints) == 3


def test_a_half_precision_model_keeps_the_precision_of_its_other_layers(tmp_path: Path) -> None:
    model = save_family(tmp_path / "half", "sd15", dtype=torch.float16)
    plain = ModelParts(describe(str(model)))
    pairs = {name: pair for name, pair in factors(plain).items() if name.startswith("unet")}
    path = tmp_path / "x.safetensors"
    save_file(as_kohya(pairs, RANK), path)
    state = ModelParts(describe(f"{model}+{path}")).unet.state_dict()
    fused = state[f"{LINEAR}.weight"]
    assert (fused.dtype, state["conv_in.weight"].dtype) == (torch.float32, torch.float16)
    expected = merged(plain.unet.state_dict()[f"{LINEAR}.weight"].float(), *pairs[f"unet.{LINEAR}"], 1.0)
    torch.testing.assert_close(fused, expected)


def broken(tmp_path: Path, content: dict[str, Tensor]) -> Path:
    path = tmp_path / "broken.safetensors"
    save_file(content, path)
    return path


def test_loras_that_do_not_fit_are_refused(model: Path, tmp_path: Path) -> None:
    pairs = {f"unet.{LINEAR}": factors(ModelParts(describe(str(model))))[f"unet.{LINEAR}"]}
    a, b = pairs[f"unet.{LINEAR}"]
    cases = {
        "no LoRA": {"x": torch.zeros(2)},
        "has no layer 'down_blocks.9": as_diffusers({f"unet.{LINEAR}".replace("blocks.0", "blocks.9", 1): (a, b)}),
        "does not fit": as_diffusers({f"unet.{LINEAR}": (torch.zeros(RANK, 99), b)}),
        "belongs to no part": as_diffusers({"transformer.x": (a, b)}),
    }
    for words, content in cases.items():
        with pytest.raises(ModelError, match=words):
            _ = ModelParts(describe(f"{model}+{broken(tmp_path, content)}")).unet


def test_a_lora_with_a_bad_header_is_refused_before_anything_is_loaded(model: Path, tmp_path: Path) -> None:
    path = broken(tmp_path, as_diffusers({f"unet.{LINEAR}": (torch.zeros(2, 32), torch.zeros(32, 2))}))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ModelError, match="truncated"):
        ModelParts(describe(f"{model}+{path}"))
