"""Adapters as diffusers' and peft's own savers write them, against what those libraries draw with them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from pipelines import LoraUse, ModelError, ModelParts, StreamSpec, describe, inspect_model, load
from tests.by_hand import pipe_of
from tests.miniature import save_family

LINEAR = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1"]
DEEP = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
SHIFTED = "down_blocks.0.resnets.0.time_emb_proj"
CONFIGS: dict[str, Any] = {
    "LoRA": peft.LoraConfig(r=4, lora_alpha=2, target_modules=LINEAR, rank_pattern={DEEP: 2}, alpha_pattern={DEEP: 5}),
    "rsLoRA": peft.LoraConfig(r=4, lora_alpha=2, target_modules=LINEAR, use_rslora=True),
    "DoRA": peft.LoraConfig(r=4, lora_alpha=6, target_modules=LINEAR, use_dora=True),
    "LoHa": peft.LoHaConfig(r=3, alpha=2, target_modules=LINEAR),
    "LoHa with cores": peft.LoHaConfig(r=3, alpha=2, target_modules=LINEAR, use_effective_conv2d=True),
    "LoKr": peft.LoKrConfig(r=2, alpha=3, target_modules=LINEAR, alpha_pattern={DEEP: 1}),
    "LoKr with cores": peft.LoKrConfig(r=2, alpha=3, target_modules=LINEAR, use_effective_conv2d=True, decompose_both=True),
    "LoKr of whole factors": peft.LoKrConfig(r=16, alpha=4, target_modules=LINEAR),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(tmp_path_factory.mktemp("adapters") / "sd15", "sd15")


def random_numbers(network: nn.Module) -> None:
    """Adapters start as nothing; these change the network."""
    generator = torch.Generator().manual_seed(7)
    for name, value in network.named_parameters():
        if any(word in name for word in ("lora_", "hada_", "lokr_")):
            value.data += 0.3 * torch.randn(value.shape, generator=generator)


@pytest.mark.parametrize(("name", "as_file"), [*((name, True) for name in CONFIGS), (next(iter(CONFIGS)), False)])
def test_peft_s_own_files_are_what_peft_merges(model: Path, tmp_path: Path, name: str, as_file: bool) -> None:
    unet = UNet2DConditionModel.from_pretrained(model / "unet")
    adapted = peft.get_peft_model(unet, CONFIGS[name])
    random_numbers(adapted)
    adapted.save_pretrained(tmp_path / "x")
    merged = adapted.merge_and_unload().state_dict()
    place = tmp_path / "x" / ("adapter_model.safetensors" if as_file else "")
    parts = ModelParts(describe(f"{model}+{place}"))
    ours, plain = parts.unet.state_dict(), UNet2DConditionModel.from_pretrained(model / "unet").state_dict()
    changed = [key for key in merged if not torch.equal(merged[key], plain[key])]
    assert len(changed) == parts.loras[0].layers["unet"] > 20
    assert parts.loras[0].kinds == (name.split()[0].removeprefix("rs"),)
    for key in plain:
        torch.testing.assert_close(ours[key], merged[key], rtol=1e-4, atol=1e-5)


def saved(model: Path, folder: Path, family: str, **config: Any) -> Any:
    """diffusers' pipeline with LoRAs on every network, saved as its trainers do."""
    pipe = pipe_of(model, family)
    given: dict[str, Any] = {}
    for part in ("unet", "text_encoder", "text_encoder_2"):
        network = getattr(pipe, part, None)
        if network is None:
            continue
        network.add_adapter(peft.LoraConfig(target_modules=LINEAR if part == "unet" else TEXT, **config))
        random_numbers(network)
        state = get_peft_model_state_dict(network)
        given[f"{part}_lora_layers"] = state if part == "unet" else convert_state_dict_to_diffusers(state)
        given[f"{part}_lora_adapter_metadata"] = network.peft_config["default"].to_dict()
    type(pipe).save_lora_weights(folder, **given)
    return pipe


def latents(pipe: Any, **options: Any) -> torch.Tensor:
    """What a pipeline draws."""
    options |= {"num_inference_steps": 2, "guidance_scale": 1.0, "output_type": "latent", "height": 64, "width": 64}
    made: torch.Tensor = pipe("ink", generator=torch.Generator().manual_seed(2), **options).images
    return made


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.parametrize("config", [{"r": 4, "lora_alpha": 1}, {"r": 2, "lora_alpha": 4, "use_dora": True}])
def test_what_diffusers_saves_is_drawn_as_diffusers_draws_it(tmp_path: Path, family: str, config: dict[str, Any]) -> None:
    """Against the pipeline that saved it: diffusers 0.42 leaves a text encoder's magnitude vectors out when it loads them."""
    model = save_family(tmp_path / family, family)
    source = saved(model, tmp_path / "lora", family, **config)
    file = tmp_path / "lora" / "pytorch_lora_weights.safetensors"
    parts = ModelParts(describe(f"{model}+{file}"))
    own = pipe_of(model, family)
    plain = latents(own)
    own.unet = parts.unet
    for part in parts.text_parts:
        setattr(own, part, parts.text_network(part).encoder)
    expected, got = latents(source), latents(own)
    assert (expected - plain).abs().max() > 1e-2
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    pipe = pipe_of(model, family)
    pipe.load_lora_weights(tmp_path / "lora")
    pipe.fuse_lora(lora_scale=0.7)
    pipe.unload_lora_weights()
    weaker = ModelParts(describe(f"{model}+{file}:0.7")).unet.state_dict()
    for name, value in pipe.unet.state_dict().items():
        torch.testing.assert_close(weaker[name], value, rtol=1e-4, atol=1e-5)
    assert set(parts.loras[0].layers) == {"unet", *parts.text_parts}


NAMES = {
    "plain": lambda name: name,
    "no prefix": lambda name: name.removeprefix("unet."),
    "an adapter's name": lambda name: name.replace(".weight", ".default.weight"),
    "wrapped": lambda name: f"base_model.model.{name.removeprefix('unet.')}",
    "wrapped inside": lambda name: name.replace("unet.", "unet.base_model.model."),
    "wrapped with a name": lambda name: f"base_model.model.{name.removeprefix('unet.').replace('.weight', '.style.weight')}",
    "another program's": lambda name: name.replace("unet.", "diffusion_model."),
}


@pytest.mark.parametrize("case", NAMES)
def test_every_way_to_write_a_name_is_read(model: Path, tmp_path: Path, case: str) -> None:
    unet = UNet2DConditionModel.from_pretrained(model / "unet")
    unet.add_adapter(peft.LoraConfig(r=2, lora_alpha=2, target_modules=LINEAR))
    random_numbers(unet)
    state = {f"unet.{name}": value for name, value in get_peft_model_state_dict(unet).items()}
    save_file({NAMES[case](name): value.contiguous() for name, value in state.items()}, tmp_path / "x.safetensors")
    parts = ModelParts(describe(f"{model}+{tmp_path / 'x.safetensors'}"))
    unet.fuse_lora()
    theirs = {name.replace(".base_layer", ""): value for name, value in unet.state_dict().items() if "lora" not in name}
    for name, value in parts.unet.state_dict().items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-5)
    assert ("states no alpha" in parts.loras[0].summary) == case.startswith("wrapped")


def test_what_a_file_holds_beside_its_layers_is_said(model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "bundle.safetensors"
    a, b = torch.randn(2, 32), torch.randn(32, 2)
    factors = {f"lora_unet_{DEEP.replace('.', '_')}.lora_down.weight": a, f"lora_unet_{DEEP.replace('.', '_')}.lora_up.weight": b}
    save_file({**factors, "bundle_emb.toy.string_to_param.*": torch.randn(2, 32), "step": torch.ones(1)}, path)
    words = "bundle.safetensors: LoRA: 1 layers of unet; ranks 2 to 2, weight 1; "
    words += "1 bundled embeddings are not used: toy; 1 tensors are not used: they are no part of a LoRA (step)"
    with caplog.at_level(logging.WARNING, "rill"):
        pipeline = load(StreamSpec(str(model), 128, 128, "eager", "float32", loras=(LoraUse(str(path)),)), warm=False)
    assert pipeline.loras == [words] and caplog.messages == [f"LoRA {words}"]
    assert words.partition(": ")[2] in inspect_model(f"{model}+{path}").facts["lora bundle.safetensors"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "OFT"}, "is a OFT adapter; supported are LORA, LOHA, LOKR"),
        ({"peft_type": "LORA", "bias": "all"}, "bias = 'all' is not supported"),
        ({"peft_type": "LORA", "use_dora": True, "r": 2}, "layers of the unet have no magnitude vector"),
        ({"peft_type": "LORA", "r": 2, "modules_to_save": ["conv_out"]}, "modules_to_save is not supported"),
    ],
)
def test_peft_s_configuration_is_honoured_or_refused(model: Path, tmp_path: Path, config: dict[str, Any], words: str) -> None:
    factors = {f"base_model.model.{DEEP}.lora_{side}.weight": torch.zeros(2, 2) for side in "AB"}
    save_file(factors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=words):
        ModelParts(describe(f"{model}+{tmp_path / 'adapter_model.safetensors'}"))


@pytest.mark.parametrize("change", ["cut", "nan", "shape", "length"])
@pytest.mark.parametrize("name", ["DoRA", "LoHa with cores", "LoKr with cores"])
def test_broken_factors_are_refused(model: Path, tmp_path: Path, name: str, change: str) -> None:
    adapted = peft.get_peft_model(UNet2DConditionModel.from_pretrained(model / "unet"), CONFIGS[name])
    random_numbers(adapted)
    adapted.save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    content = load_file(path)
    key = next(key for key, value in content.items() if value.ndim > 1 and value.shape[0] > 1 and "magnitude" not in key)
    changes = {
        "cut": lambda value: None,
        "nan": lambda value: torch.full_like(value, torch.nan),
        "shape": lambda value: value.new_zeros(value.shape[0] + 1, *value.shape[1:]),
        "length": lambda value: value.flatten(),
    }
    value = changes[change](content.pop(key))
    save_file(content if value is None else {**content, key: value}, path)
    with pytest.raises(ModelError, match=r"adapter_model.safetensors: .*(lacks the other|not finite|does not fit|has rank)"):
        _ = ModelParts(describe(f"{model}+{path}")).unet
