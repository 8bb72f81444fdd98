"""LoRAs of a stream's spec through the whole engine, against weights merged by hand; and what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines import (
    Entry,
    Frame,
    LoraUse,
    ModelError,
    ModelParts,
    Pixels,
    Settings,
    SpecError,
    StreamPipeline,
    StreamSpec,
    describe,
    load,
)
from pipelines.checkpoints.loader.lora import LoraFile
from pipelines.checkpoints.loader.lora_patch import PatchedWeights
from pipelines.checkpoints.naming import with_loras
from tests.miniature import save_family, save_lora
from tests.streams import close

SIZE = 128
RANK = 2
LINEAR = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
DEEP = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"
FRAME = Frame(0, 0.0, np.random.default_rng(3).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(tmp_path_factory.mktemp("lora") / "model", "sd15")


Pairs = dict[str, tuple[Tensor, Tensor]]
"""Layer → (A, B)."""


def pairs(seed: int, *layers: str) -> Pairs:
    generator = torch.Generator().manual_seed(seed)
    return {layer: (torch.randn(RANK, 32, generator=generator), torch.randn(32, RANK, generator=generator)) for layer in layers}


def merged_copy(model: Path, target: Path, *shares: tuple[Pairs, float]) -> Path:
    """The model's folder with W + weight · B·A written into its files."""
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        (target / part).mkdir(parents=True)
        for path in (model / part).iterdir():
            (target / part / path.name).write_bytes(path.read_bytes())
    (target / "model_index.json").write_bytes((model / "model_index.json").read_bytes())
    for file in (target / "unet/diffusion_pytorch_model.safetensors", target / "text_encoder/model.safetensors"):
        tensors = load_file(file)
        for factors, weight in shares:
            for layer, (a, b) in factors.items():
                for name in tensors:
                    if name.removeprefix("text_model.") == f"{layer.removeprefix('text_model.')}.weight":
                        tensors[name] = tensors[name] + weight * b @ a
        save_file(tensors, file, metadata={"format": "pt"})
    return target


def spec(model: Path, *loras: LoraUse) -> StreamSpec:
    return StreamSpec(str(model), SIZE, SIZE, "eager", "float32", loras=loras)


def drawn(pipeline: StreamPipeline) -> Pixels:
    settings = Settings().patched({"prompt": "ink", "strength": 0.7})
    (answer,) = pipeline.step([Entry(pipeline.open(settings), FRAME, settings)])
    assert answer.pixels is not None
    return answer.pixels.numpy()


def test_two_loras_draw_what_the_merged_weights_draw(model: Path, tmp_path: Path) -> None:
    one, other = pairs(1, LINEAR, TEXT), pairs(2, LINEAR, DEEP)
    uses = (
        LoraUse(str(save_lora(tmp_path / "one.safetensors", one)), 0.6),
        LoraUse(str(save_lora(tmp_path / "other.safetensors", other, alpha=1.0)), -0.8),
    )
    by_hand = merged_copy(model, tmp_path / "merged", (one, 0.6), (other, -0.8 / RANK))
    got, expected = drawn(load(spec(model, *uses))), drawn(load(spec(by_hand)))
    assert close(got, expected)
    assert not close(expected, drawn(load(spec(model))), 8)


def test_weight_nought_is_the_model_itself_and_more_weight_draws_otherwise(model: Path, tmp_path: Path) -> None:
    name = str(save_lora(tmp_path / "a.safetensors", pairs(1, LINEAR, TEXT)))
    plain, *weighed = (drawn(load(spec(model, LoraUse(name, weight)))) for weight in (0.0, 0.5, 1.0))
    assert np.array_equal(plain, drawn(load(spec(model))))
    assert not close(plain, weighed[0], 2) and not close(weighed[0], weighed[1], 2)


def test_a_lora_of_the_spec_is_one_of_the_model_s_name_and_they_add_up(model: Path, tmp_path: Path) -> None:
    name = str(save_lora(tmp_path / "a.safetensors", pairs(1, LINEAR)))
    here = load(spec(model, LoraUse(name, 0.5)))
    named = load(replace(spec(model), model=f"{model}+{name}:0.5"))
    assert here.graphs.parts.fingerprints == named.graphs.parts.fingerprints
    both = load(replace(spec(model, LoraUse(name, 0.5)), model=f"{model}+{name}:0.5"))
    assert close(drawn(both), drawn(load(spec(model, LoraUse(name, 1.0)))))


def test_the_fingerprint_tells_files_and_weights_apart(model: Path, tmp_path: Path) -> None:
    a = str(save_lora(tmp_path / "a.safetensors", pairs(1, LINEAR)))
    b = str(save_lora(tmp_path / "b.safetensors", pairs(2, LINEAR)))
    wanted = [(), (LoraUse(a),), (LoraUse(a, 0.5),), (LoraUse(b),), (LoraUse(a, 0.5), LoraUse(b)), (LoraUse(a), LoraUse(b, 0.5))]
    parts = [ModelParts(with_loras(describe(str(model)), uses)) for uses in wanted]
    assert len({part.fingerprints.unet for part in parts}) == len(wanted)
    assert len({part.fingerprints.autoencoder for part in parts}) == 1


@pytest.mark.parametrize(("prefix", "part", "width"), [("lora_te1", "text_encoder", 32), ("lora_te2", "text_encoder_2", 48)])
def test_both_text_encoders_of_sdxl_take_kohya_s_names(tmp_path: Path, prefix: str, part: str, width: int) -> None:
    parts = ModelParts(describe(str(save_family(tmp_path / "sdxl", "sdxl"))))
    a, b = torch.randn(RANK, width), torch.randn(width, RANK)
    flat = f"{prefix}_{TEXT.replace('.', '_')}"
    save_file({f"{flat}.lora_down.weight": a, f"{flat}.lora_up.weight": b}, tmp_path / "x.safetensors")
    encoders = {name: parts.checkpoint.text_encoder(name)[1] for name in ("text_encoder", "text_encoder_2")}
    before = {name: {key: value.clone() for key, value in encoder.state_dict().items()} for name, encoder in encoders.items()}
    for name, encoder in encoders.items():
        PatchedWeights(name, encoder, parts.unet_config, [LoraFile(tmp_path / "x.safetensors", 0.5)])
        for key, value in encoder.state_dict().items():
            share = 0.5 * b @ a if name == part and key.endswith("layers.0.self_attn.q_proj.weight") else 0.0
            torch.testing.assert_close(value, before[name][key] + share)


REFUSED = {
    "is pickled": ("x.pt", {}),
    "belongs to no part": ("x.safetensors", {"transformer.blocks.0.lora_A.weight": torch.zeros(2, 4)}),
    "lacks the other factor of its layer .hada_w1_b": ("x.safetensors", {"lora_unet_mid_block.hada_w1_a": torch.zeros(2, 4)}),
    "supported are LoRA, DoRA, LoHa and LoKr": ("x.safetensors", {"lora_unet_mid_block.oft_blocks": torch.zeros(2, 4)}),
    "has no layer 'down_blocks.7": (
        "x.safetensors",
        {f"unet.{LINEAR.replace('.0', '.7', 1)}.lora_{side}.weight": torch.zeros(2, 2) for side in "AB"},
    ),
    "does not fit the unet": ("x.safetensors", {f"unet.{LINEAR}.lora_{side}.weight": torch.zeros(2, 99) for side in "AB"}),
    "does not fit the text_encoder": (
        "x.safetensors",
        {f"text_encoder.{TEXT}.lora_{side}.weight": torch.zeros(2, 99) for side in "AB"},
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_refused_says_why(model: Path, tmp_path: Path, words: str) -> None:
    name, content = REFUSED[words]
    path = tmp_path / name
    save_file(content, path) if content else path.write_bytes(b"\x80\x04N.")
    with pytest.raises(ModelError, match=words) as caught:
        load(spec(model, LoraUse(str(path)))).prepare(Settings())
    assert path.name in str(caught.value)


def test_names_that_are_no_lora_s_are_refused(model: Path) -> None:
    for name, words in {"taesd": "no LoRA", "/nowhere/x.safetensors": "is not a file", "a/b": "switched off"}.items():
        with pytest.raises(ModelError, match=words):
            load(spec(model, LoraUse(name)), offline=True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("a", "must be a list"),
        ([{"weight": 1}], 'must have "name"'),
        ([{"name": "a", "wait": 1}], 'may have "weight"'),
        ([["a", 1]], 'must have "name"'),
        ([{"name": "a", "weight": True}], "not a weight for a"),
        ([{"name": "a", "weight": 4.5}], "from -4 to 4"),
        ([{"name": "a", "weight": float("nan")}], "from -4 to 4"),
        ([{"name": ""}], "not the name"),
        ([{"name": "a\n"}], "not the name"),
        ([{"name": 3}], "not the name"),
        ([{"name": "a"}, {"name": "a", "weight": 0.5}], "named twice"),
        ([{"name": str(number)} for number in range(9)], "at most 8"),
    ],
)
def test_a_spec_names_the_field_that_is_wrong(given: object, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        StreamSpec(loras=given)  # type: ignore[arg-type]
    assert caught.value.field == "loras"


def test_a_spec_survives_json() -> None:
    made = StreamSpec(loras=(LoraUse("a", 0.5), LoraUse("b")))
    assert StreamSpec(**json.loads(json.dumps(asdict(made)))) == made and hash(made)
