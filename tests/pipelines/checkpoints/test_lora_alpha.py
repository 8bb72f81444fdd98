"""Every layer of a LoRA with its own alpha and rank, in every layout, against W + strength · α/r · B·A computed in float64."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor, nn

from pipelines import ModelError, ModelParts, describe
from pipelines.checkpoints.loader.check import inspect
from pipelines.checkpoints.loader.lora import LoraFile
from pipelines.checkpoints.loader.lora_patch import PatchedWeights
from tests.ldm import _unet_name
from tests.miniature import save_family

ALPHAS = (1.0, 2.0, 3.5, None, 0.5)
RANKS = (1, 2, 3, 4, 8)
QUERY = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
TEXT = ("encoder.layers.0.self_attn.q_proj", "encoder.layers.0.self_attn.out_proj", "encoder.layers.0.mlp.fc1")
OLD = {"to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out.0": "to_out"}


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(tmp_path_factory.mktemp("lora") / request.param, request.param)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(tmp_path_factory.mktemp("lora") / "sd15", "sd15")


def networks(model: Path) -> dict[str, nn.Module]:
    """The UNet and every text encoder, as they are in the model's files."""
    parts = ModelParts(describe(str(model)))
    texts = [part for part in parts.checkpoint.configs if part.startswith("text")]
    return {"unet": parts.unet} | {part: parts.checkpoint.text_encoder(part)[1] for part in texts}


class Layer:
    """One layer's factors, float16, with a rank and an alpha (None: not said) of its own."""

    def __init__(self, part: str, name: str, shape: tuple[int, ...], number: int) -> None:
        generator = torch.Generator().manual_seed(number)
        self.part, self.name, self.rank, self.alpha = part, name, RANKS[number % 5], ALPHAS[(number + number // 5) % 5]
        self.down = torch.randn(self.rank, *shape[1:], generator=generator).half()
        self.up = torch.randn(shape[0], self.rank, *(1 for _ in shape[2:]), generator=generator).half()

    @property
    def added(self) -> Tensor:
        alpha = self.rank if self.alpha is None else self.alpha
        return alpha / self.rank * self.up.flatten(1).double() @ self.down.flatten(1).double()


def layers(model: Path) -> list[Layer]:
    """Of all layers of the UNet, linear and convolutions, and some of each text encoder."""
    found = []
    for part, network in networks(model).items():
        for name, layer in network.named_modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)) and (part == "unet" or name.endswith(TEXT)):
                found.append(Layer(part, name, tuple(layer.weight.shape), len(found)))
    return found


def dotted(layer: Layer) -> str:
    """As diffusers writes a layer: the text encoders' names begin with text_model."""
    plain = layer.name.removeprefix("text_model.")
    return layer.name if layer.part == "unet" else f"text_model.{plain}"


def diffusers(layer: Layer, model: Path) -> dict[str, Tensor]:
    stem = f"{layer.part}.{dotted(layer)}"
    return {f"{stem}.lora_A.weight": layer.down, f"{stem}.lora_B.weight": layer.up} | alpha_of(layer, stem)


def kohya(layer: Layer, model: Path) -> dict[str, Tensor]:
    prefix = {"unet": "lora_unet", "text_encoder": "lora_te1" if model.name == "sdxl" else "lora_te"}.get(layer.part, "lora_te2")
    return as_kohya(f"{prefix}_{dotted(layer).replace('.', '_')}", layer)


def original(layer: Layer, model: Path) -> dict[str, Tensor]:
    """Kohya's names for SDXL: those of the original UNet, from the table that the tests' single files are written with."""
    if layer.part != "unet" or model.name != "sdxl":
        return kohya(layer, model)
    config = json.loads((model / "unet" / "config.json").read_text())
    attends = ["CrossAttn" in kind for kind in config["up_block_types"]]
    name = _unet_name(f"{layer.name}.weight", config["layers_per_block"], attends).removesuffix(".weight")
    return as_kohya(f"lora_unet_{name.replace('.', '_')}", layer)


def oldest(layer: Layer, model: Path) -> dict[str, Tensor]:
    """Diffusers' first layout, which knew attention alone; other layers in the one that followed."""
    block, _, leaf = dotted(layer).rpartition("attn1." if "attn1." in layer.name else "attn2.")
    if block and leaf in OLD:
        stem = f"unet.{dotted(layer).removesuffix(leaf)}processor.{OLD[leaf]}_lora"
    elif "self_attn" in layer.name:
        attention, _, leaf = dotted(layer).rpartition(".")
        stem = f"{layer.part}.{attention}.to_{leaf.replace('_proj', '')}_lora"
    else:
        stem = f"{layer.part}.{dotted(layer)}.lora"
    content = {f"{stem}.down.weight": layer.down, f"{stem}.up.weight": layer.up}
    return content | alpha_of(layer, f"{layer.part}.{dotted(layer)}")


def mixed(layer: Layer, model: Path) -> dict[str, Tensor]:
    return (diffusers, kohya, original, oldest)[len(layer.name) % 4](layer, model)


def as_kohya(flat: str, layer: Layer) -> dict[str, Tensor]:
    return {f"{flat}.lora_down.weight": layer.down, f"{flat}.lora_up.weight": layer.up} | alpha_of(layer, flat)


def alpha_of(layer: Layer, stem: str) -> dict[str, Tensor]:
    return {} if layer.alpha is None else {f"{stem}.alpha": torch.tensor(layer.alpha)}


Write = Callable[[Layer, Path], dict[str, Tensor]]


def save(path: Path, content: dict[str, Tensor], metadata: dict[str, object] | None = None) -> Path:
    save_file(content, path, metadata=None if metadata is None else {"lora_adapter_metadata": json.dumps(metadata)})
    return path


def check(model: Path, path: Path, shares: list[Layer], strength: float) -> None:
    before, after = networks(model), networks(model)
    config = ModelParts(describe(str(model))).unet_config
    for part, network in after.items():
        PatchedWeights(part, network, config, [LoraFile(path, strength)])
    wanted = {(layer.part, f"{layer.name}.weight"): layer for layer in shares}
    changed = 0
    for part, network in after.items():
        plain = before[part].state_dict()
        for name, weight in network.state_dict().items():
            layer = wanted.get((part, name))
            expected = plain[name].double()
            if layer is not None:
                expected = expected + strength * layer.added.view(expected.shape)
                changed += 1
            torch.testing.assert_close(weight.double(), expected, rtol=1e-5, atol=1e-5)
    assert changed == len(shares)


@pytest.mark.parametrize("write", [diffusers, kohya, original, oldest, mixed])
def test_each_layer_has_its_own_alpha_and_rank(model: Path, tmp_path: Path, write: Write) -> None:
    shares = layers(model)
    content: dict[str, Tensor] = {}
    for layer in shares:
        content |= write(layer, model)
    path = save(tmp_path / "x.safetensors", content)
    check(model, path, shares, 0.7)
    facts = inspect(f"{model}+{path}:0.7")
    assert facts.problem is None
    assert f"{sum(layer.part == 'unet' for layer in shares)} layers of unet" in facts.facts["lora x.safetensors"]


@pytest.mark.parametrize("rooted", [False, True])
def test_alphas_in_the_metadata_count(model: Path, tmp_path: Path, rooted: bool) -> None:
    shares, content, metadata = layers(model), {}, {}
    for part in {layer.part for layer in shares}:
        metadata |= {f"{part}.lora_alpha": 2.0, f"{part}.r": 4, f"{part}.use_rslora": rooted, f"{part}.target_modules": ["x"]}
        own = [layer for layer in shares if layer.part == part]
        metadata[f"{part}.rank_pattern"] = {f"^{dotted(layer)}": layer.rank for layer in own if layer.rank != 4}
        metadata[f"{part}.alpha_pattern"] = {dotted(layer): layer.alpha for layer in own if layer.alpha not in (None, 2.0)}
    for layer in shares:
        layer.alpha = 2.0 if layer.alpha is None else layer.alpha
        content |= {name: value for name, value in diffusers(layer, model).items() if not name.endswith(".alpha")}
        layer.alpha *= math.sqrt(layer.rank) if rooted else 1.0
    check(model, save(tmp_path / "x.safetensors", content, metadata), shares, 1.3)


def test_a_pattern_means_the_end_of_a_layer_s_name(small: Path, tmp_path: Path) -> None:
    shares = [layer for layer in layers(small) if layer.name.endswith(("to_q", "to_out.0"))]
    content: dict[str, Tensor] = {}
    for layer in shares:
        content |= {name: value for name, value in diffusers(layer, small).items() if not name.endswith(".alpha")}
        layer.alpha = 8.0 if layer.name.endswith("attn1.to_q") else 3.0 if layer.name.endswith("to_q") else 5.0
    pattern = {"attn1.to_q": 8, "to_q": 3, "q": 99}
    metadata = {"unet.lora_alpha": 5, "unet.alpha_pattern": pattern}
    check(small, save(tmp_path / "x.safetensors", content, metadata), shares, 1.0)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of diffusers, on the miniature's scheduler
def test_diffusers_own_pipeline_fuses_the_same(small: Path, tmp_path: Path) -> None:
    """Where it is right: alphas of the metadata; a LoRA in kohya's layout with one alpha for all."""
    shares = [layer for layer in layers(small) if "attn" in layer.name and layer.part == "unet"]
    for layer in shares:
        layer.alpha = layer.alpha or 1.0
    bare = {name: value for layer in shares for name, value in diffusers(layer, small).items() if not name.endswith(".alpha")}
    metadata: dict[str, object] = {"unet.r": 4, "unet.lora_alpha": 1.0, "unet.target_modules": [layer.name for layer in shares]}
    metadata["unet.rank_pattern"] = {f"^{layer.name}": layer.rank for layer in shares if layer.rank != 4}
    metadata["unet.alpha_pattern"] = {f"^{layer.name}": layer.alpha for layer in shares if layer.alpha != 1.0}
    save(tmp_path / "metadata.safetensors", bare, metadata)
    for layer in shares:
        layer.alpha = 2.0
    save(tmp_path / "kohya.safetensors", {name: value for layer in shares for name, value in kohya(layer, small).items()})
    for file in ("metadata.safetensors", "kohya.safetensors"):
        pipe = StableDiffusionPipeline.from_pretrained(small, safety_checker=None, requires_safety_checker=False)
        pipe.load_lora_weights(tmp_path, weight_name=file)
        pipe.fuse_lora(lora_scale=0.6)
        pipe.unload_lora_weights()
        ours = ModelParts(describe(f"{small}+{tmp_path / file}:0.6")).unet.state_dict()
        for name, weight in pipe.unet.state_dict().items():
            torch.testing.assert_close(ours[name], weight, rtol=1e-5, atol=1e-5)


def test_half_precision_weights_are_not_rounded_by_fusing(tmp_path: Path) -> None:
    half = save_family(tmp_path / "half", "sd15", dtype=torch.float16)
    shares = [layer for layer in layers(half) if layer.part == "unet"]
    paths = []
    for number in range(3):
        content = {name: value for layer in shares for name, value in kohya(layer, half).items()}
        paths.append(save(tmp_path / f"{number}.safetensors", content))
    before = ModelParts(describe(str(half))).unet.state_dict()
    after = ModelParts(describe(f"{half}+{paths[0]}:0.3+{paths[1]}:0.3+{paths[2]}:0.3")).unet.state_dict()
    for layer in shares:
        name = f"{layer.name}.weight"
        share = 0.3 * layer.added.float().view(before[name].shape)
        expected = before[name].float() + share + share + share
        torch.testing.assert_close(after[name], expected, rtol=1e-6, atol=1e-6)


def changed(content: dict[str, Tensor], ending: str, value: Tensor | None) -> dict[str, Tensor]:
    """The content with the first tensor of this ending replaced, or left out."""
    name = next(name for name in content if name.endswith(ending))
    rest = {key: tensor for key, tensor in content.items() if key != name}
    return rest if value is None else rest | {name: value}


NAN, INFINITE = (torch.full((1, 32), number) for number in (math.nan, math.inf))
DEEP = "[" * 40 + "]" * 40
Change = tuple[str, Callable[[dict[str, Tensor]], dict[str, Tensor]], object]
REFUSED: dict[str, Change] = {
    "not a number": ("not finite", lambda c: changed(c, "down.weight", NAN), None),
    "infinite": ("not finite", lambda c: changed(c, "down.weight", INFINITE), None),
    "too large for float32": ("not finite", lambda c: {n: v.float() * 1e30 for n, v in c.items()}, None),
    "alpha is no number": ("alpha nan", lambda c: changed(c, ".alpha", torch.tensor(math.nan)), None),
    "alpha is infinite": ("alpha inf", lambda c: changed(c, ".alpha", torch.tensor(math.inf)), None),
    "alpha is nought": ("alpha 0 ", lambda c: changed(c, ".alpha", torch.tensor(0.0)), None),
    "alpha is many": ("not one number", lambda c: changed(c, ".alpha", torch.ones(3)), None),
    "no up": ("lacks the other factor", lambda c: changed(c, "up.weight", None), None),
    "no down": ("lacks the other factor", lambda c: changed(c, "down.weight", None), None),
    "alpha alone": ("lacks the other factor", lambda c: c | {"lora_unet_mid_block.alpha": torch.tensor(1.0)}, None),
    "rank nought": (
        "does not fit",
        lambda c: changed(changed(c, "down.weight", torch.zeros(0, 32)), "up.weight", torch.zeros(32, 0)),
        None,
    ),
    "two ranks": ("does not fit", lambda c: changed(c, "up.weight", torch.zeros(32, 2)), None),
    "twice": ("for the same layer", lambda c: c | {f"unet.{QUERY}.lora_A.weight": NAN}, None),
    "another part": (
        "has layers for text_encoder_2",
        lambda c: c | {f"lora_te2_x.lora_{side}.weight": NAN.clone() for side in ("down", "up")},
        None,
    ),
    "metadata no JSON": ("not readable JSON", lambda c: c, "{"),
    "metadata a list": ("not a JSON object", lambda c: c, "[]"),
    "metadata deep": ("nests deeper", lambda c: c, f'{{"unet.r": {DEEP}}}'),
    "metadata of another part": ("'transformer.r' belongs to no part", lambda c: c, '{"transformer.r": 1}'),
    "metadata without a part": ("'lora_alpha' belongs to no part", lambda c: c, '{"lora_alpha": 1}'),
    "metadata with a text": ("unet.lora_alpha: '1' is not a positive number", lambda c: c, '{"unet.lora_alpha": "1"}'),
    "metadata negative": ("is not a positive number", lambda c: c, '{"unet.lora_alpha": -1}'),
    "metadata with a list of alphas": ("must contain a number for each", lambda c: c, '{"unet.alpha_pattern": [1]}'),
    "a regular expression": ("is not the name of a layer", lambda c: c, '{"unet.alpha_pattern": {"(a+)+$": 1}}'),
    "another rank": ("has rank 1, its metadata 8", lambda c: c, '{"unet.r": 8}'),
    "two alphas": ("is 1, in its metadata 8", lambda c: c, '{"unet.lora_alpha": 8}'),
    "DoRA": ("use_dora", lambda c: c, '{"unet.use_dora": true}'),
    "PiSSA": ("changes the base weights", lambda c: c, '{"unet.init_lora_weights": "pissa_niter_4"}'),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_applied_wrongly_is_refused_by_name(small: Path, tmp_path: Path, case: str) -> None:
    words, change, metadata = REFUSED[case]
    layer = Layer("unet", QUERY, (32, 32), 0)
    assert (layer.rank, layer.alpha) == (1, 1.0)
    path = tmp_path / "x.safetensors"
    save_file(change(kohya(layer, small)), path, metadata=None if metadata is None else {"lora_adapter_metadata": str(metadata)})
    with pytest.raises(ModelError, match=words) as caught:
        _ = ModelParts(describe(f"{small}+{path}")).unet
    assert str(caught.value).startswith("x.safetensors: ")


def test_weights_that_overflow_in_the_model_s_precision_are_refused(tmp_path: Path) -> None:
    half = save_family(tmp_path / "half", "sd15", dtype=torch.float16)
    layer = Layer("unet", QUERY, (32, 32), 0)
    layer.up = layer.up * 1e4
    path = save(
        tmp_path / "x.safetensors", kohya(layer, half) | {"lora_unet_mid_block_attentions_0_proj_in.alpha": torch.tensor(1.0)}
    )
    with pytest.raises(ModelError, match="lacks the other factor"):
        ModelParts(describe(f"{half}+{path}"))
    save(path, {name: value.float() * 1e3 for name, value in kohya(layer, half).items()})
    with pytest.raises(
        ModelError, match=r"x.safetensors: the weights of .*attn1.to_q of the unet are not finite in torch.float16"
    ):
        _ = ModelParts(describe(f"{half}+{path}")).unet
