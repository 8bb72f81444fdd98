"""LoRAs that change while a pipeline runs: equal to a fresh one, in the same storage, back bit by bit, all or nothing."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipelines import Entry, Frame, LoraUse, ModelError, Pixels, Settings, StreamPipeline, StreamSpec, load
from pipelines.checkpoints.loader import lora_patch
from pipelines.checkpoints.loader.lora import LoraFile
from tests.miniature import ONE_CHUNK, fewer_layers, save_family, save_lora
from tests.pipelines.checkpoints.test_adapters import CONFIGS, random_numbers
from tests.pipelines.checkpoints.test_lora import DEEP, LINEAR, SIZE, TEXT, close, drawn, pairs

CONV = "down_blocks.0.resnets.0.conv1"
LAST = "up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_v"
FRAME = Frame(0, 0.0, np.random.default_rng(3).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(tmp_path_factory.mktemp("patched") / "model", "sd15", dtype=torch.float16)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model for the tests that build static graphs."""
    fewer_layers(monkeypatch, "sd15")
    return save_family(tmp_path / "model", "sd15", kl=False, tokens=ONE_CHUNK)


def spec_of(model: Path, *loras: LoraUse, backend: str = "eager", dtype: str = "float32") -> StreamSpec:
    return StreamSpec(str(model), SIZE, SIZE, backend, dtype, "cpu", loras=loras)


def changed(pipeline: StreamPipeline, *loras: LoraUse) -> None:
    change = pipeline.lora_change(replace(pipeline.spec, loras=loras))
    assert change is not None
    pipeline.change_loras(change)
    assert pipeline.spec.loras == loras


def weights(pipeline: StreamPipeline) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in pipeline.graphs.parts.unet.state_dict().items()}


def places(pipeline: StreamPipeline) -> dict[str, int]:
    return {name: value.data_ptr() for name, value in pipeline.graphs.parts.unet.named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def convolution() -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return {CONV: (torch.randn(2, 32, 3, 3, generator=generator), 0.2 * torch.randn(32, 2, 1, 1, generator=generator))}


def saved(model: Path, folder: Path, kind: str) -> LoraUse:
    """An adapter of a kind with random numbers, by peft."""
    adapted = peft.get_peft_model(UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32), CONFIGS[kind])
    random_numbers(adapted)
    adapted.save_pretrained(folder)
    return LoraUse(str(folder / "adapter_model.safetensors"), 0.7)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [*((kind, "float32") for kind in ("LoRA", "DoRA", "LoHa", "LoKr with cores")), ("LoRA", "bfloat16"), ("DoRA", "bfloat16")],
)
def test_every_kind_comes_changes_and_goes_in_the_weights_own_storage(model: Path, tmp_path: Path, kind: str, dtype: str) -> None:
    use = saved(model, tmp_path / "x", kind)
    pipeline = load(spec_of(model, dtype=dtype))
    baseline, stored, before = weights(pipeline), places(pipeline), drawn(pipeline)
    for weight in (-1.3, 0.2):
        changed(pipeline, replace(use, weight=weight))
        fresh = load(spec_of(model, replace(use, weight=weight), dtype=dtype))
        assert same(weights(pipeline), weights(fresh)) and not same(weights(pipeline), baseline)
        assert np.array_equal(drawn(pipeline), drawn(fresh))
    changed(pipeline)
    assert same(weights(pipeline), baseline) and places(pipeline) == stored
    assert np.array_equal(drawn(pipeline), before)


def test_several_loras_and_the_text_encoder_equal_a_fresh_pipeline_in_any_order(model: Path, tmp_path: Path) -> None:
    a = str(save_lora(tmp_path / "a.safetensors", pairs(1, LINEAR, TEXT)))
    b = str(save_lora(tmp_path / "b.safetensors", pairs(2, LINEAR, DEEP), alpha=1.0))
    named = Path(f"{model}+{b}:0.3")  # one belongs to the model's name and stays
    pipeline = load(spec_of(named))
    plain = drawn(pipeline), weights(pipeline)
    ways = [(LoraUse(a),), (LoraUse(a, 0.5), LoraUse(b, -0.4)), (LoraUse(b, -0.4), LoraUse(a, -1.0)), (LoraUse(b, 0.0),)]
    for loras in ways:
        changed(pipeline, *loras)
        fresh = load(spec_of(named, *loras))
        for name, value in weights(fresh).items():
            torch.testing.assert_close(pipeline.graphs.parts.unet.state_dict()[name], value, rtol=1e-5, atol=1e-6)
        assert np.array_equal(drawn(pipeline), drawn(fresh)), "the prompt is encoded with the changed encoder"
        weighted = Settings().patched({"prompt": "(ink:1.3) paper", "strength": 0.7})
        assert close(_drawn(pipeline, weighted), _drawn(fresh, weighted))
        assert pipeline.graphs.parts.fingerprints == fresh.graphs.parts.fingerprints
        assert pipeline.loras == fresh.loras
    changed(pipeline)
    assert np.array_equal(drawn(pipeline), plain[0]) and same(weights(pipeline), plain[1])


def test_a_pipeline_that_was_loaded_with_a_lora_goes_back_to_the_file_s_weights(model: Path, tmp_path: Path) -> None:
    use = LoraUse(str(save_lora(tmp_path / "a.safetensors", pairs(1, LINEAR, TEXT))))
    pipeline, plain = load(spec_of(model, use)), load(spec_of(model))
    changed(pipeline)
    assert same(weights(pipeline), weights(plain)) and np.array_equal(drawn(pipeline), drawn(plain))


@pytest.mark.parametrize("broken", ["numbers", "weight"])
def test_a_change_that_fails_half_way_leaves_everything_as_it_was(model: Path, tmp_path: Path, broken: str) -> None:
    good = LoraUse(str(save_lora(tmp_path / "good.safetensors", pairs(1, LINEAR, LAST, TEXT))), 0.5)
    path = save_lora(tmp_path / "bad.safetensors", pairs(2, LINEAR, DEEP, LAST))
    if broken == "numbers":
        content = load_file(path)
        name = next(name for name in content if LAST.replace(".", "_") in name and "down" in name)
        save_file({**content, name: content[name] * float("nan")}, path)
    pipeline = load(spec_of(model, good))
    before, picture = weights(pipeline), drawn(pipeline)
    if broken == "weight":  # the memory is gone in the middle of the copying
        _failing_at(pipeline, 3)
    change = pipeline.lora_change(replace(pipeline.spec, loras=(replace(good, weight=-1.0), LoraUse(str(path)))))
    assert change is not None
    with pytest.raises(ModelError, match=r"bad.safetensors: has numbers" if broken == "numbers" else "no memory"):
        pipeline.change_loras(change)
    assert same(weights(pipeline), before) and pipeline.spec.loras == (good,)
    assert np.array_equal(drawn(pipeline), picture)
    changed(pipeline, replace(good, weight=0.9))
    assert np.array_equal(drawn(pipeline), drawn(load(spec_of(model, replace(good, weight=0.9)))))


def _failing_at(pipeline: StreamPipeline, count: int) -> None:
    """The `count`-th layer that is set from now on fails, once."""
    (unet,) = (one for one in pipeline.graphs.parts.adapted._patched if one.part == "unet")
    whole, calls = unet._set, []

    def failing(*inputs: Any) -> None:
        calls.append(inputs)
        if len(calls) == count:
            raise ModelError("no memory")
        whole(*inputs)

    unet._set = failing  # type: ignore[method-assign]


class Allocations(TorchDispatchMode):
    """The largest tensor, in numbers, that an operation made in memory of its own; and the threads that products had."""

    def __init__(self) -> None:
        super().__init__()
        self.largest, self.threads = 0, set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.addmm_.default:
            self.threads.add(torch.get_num_threads())
        taken = {value.untyped_storage().data_ptr() for value in args if isinstance(value, Tensor)}
        made = func(*args, **(kwargs or {}))
        for value in made if isinstance(made, tuple | list) else [made]:
            if isinstance(value, Tensor) and value.untyped_storage().data_ptr() not in taken:
                self.largest = max(self.largest, value.numel())
        return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["linear", "convolution", "channels last"])
def test_a_change_computes_blocks_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, dtype: torch.dtype
) -> None:
    """No second weight is allocated, and the blocks together are the whole sum."""
    generator = torch.Generator().manual_seed(2)
    layer = nn.Linear(96, 250) if kind == "linear" else nn.Conv2d(32, 250, 3)
    shape = layer.weight.shape
    layer.weight.data = torch.randn(shape, generator=generator).to(dtype)
    if kind == "channels last":
        layer = layer.to(memory_format=torch.channels_last)
    network = nn.ModuleDict({"to_q": layer})
    factors = [(torch.randn(3, *shape[1:], generator=generator), torch.randn(250, 3, generator=generator)) for _ in range(2)]
    loras = []
    for index, (down, up) in enumerate(factors):
        name = "unet.to_q.lora_{}.weight"
        up = up.reshape(250, 3, *[1] * (down.ndim - 2))
        save_file({name.format("A"): down, name.format("B"): up}, tmp_path / f"{index}.safetensors")
        loras.append(LoraFile(tmp_path / f"{index}.safetensors", 0.5 - index))
    patched = lora_patch.PatchedWeights("unet", network, {}, [])
    before = layer.weight.data.clone()
    wanted = patched.planned(loras)
    assert wanted is not None
    patched.apply(wanted)  # reads the factors, and keeps the first weights
    monkeypatch.setattr(lora_patch, "BLOCK", 7 * before[0].numel())
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Allocations() as made:
            patched.apply(wanted)
        assert made.threads == {1} and torch.get_num_threads() == 2
        fresh = copy.deepcopy(network)
        fresh["to_q"].weight.data = before.clone()
        with Allocations() as fused:
            lora_patch.PatchedWeights("unet", fresh, {}, loras)
        assert fused.threads == {1}, "more threads round a product otherwise, and fusing equals changing bit by bit"
        assert torch.equal(fresh["to_q"].weight.data.to(dtype), layer.weight.data)
    finally:
        torch.set_num_threads(threads)
    assert made.largest < before.numel() // 4, "only factors and blocks"
    added = sum((0.5 - i) * (up.double() @ down.double().flatten(1)).reshape(shape) for i, (down, up) in enumerate(factors))
    near = 1e-5 if dtype == torch.float32 else 2**-7  # the last bit
    torch.testing.assert_close(layer.weight.data, (before.double() + added).to(dtype), rtol=near, atol=1e-5)
    patched.apply({})
    assert torch.equal(layer.weight.data, before) and layer.weight.stride() == before.stride()


def test_what_does_not_fit_is_refused_before_anything_changes(model: Path, tmp_path: Path) -> None:
    stranger = LoraUse(str(save_lora(tmp_path / "stranger.safetensors", {"down_blocks.8.x": pairs(1, LINEAR)[LINEAR]})))
    pipeline = load(spec_of(model))
    with pytest.raises(ModelError, match=r"stranger.safetensors: is for another model"):
        pipeline.lora_change(replace(pipeline.spec, loras=(stranger,)))


def test_a_network_that_is_read_between_plan_and_change_is_changed_too(model: Path, tmp_path: Path) -> None:
    use = LoraUse(str(save_lora(tmp_path / "a.safetensors", pairs(1, TEXT))))
    pipeline, weighted = load(spec_of(model)), Settings().patched({"prompt": "(ink:1.3) paper", "strength": 0.7})
    change = pipeline.lora_change(replace(pipeline.spec, loras=(use,)))
    plain = _drawn(pipeline, weighted)  # reads the text encoders once more
    assert change is not None
    back = pipeline.change_loras(change)
    assert close(_drawn(pipeline, weighted), _drawn(load(spec_of(model, use)), weighted))
    pipeline.change_loras(back)
    assert np.array_equal(_drawn(pipeline, weighted), plain)


def test_other_changes_of_the_spec_need_a_new_pipeline(model: Path) -> None:
    pipeline = load(spec_of(model))
    for change in ({"width": 192}, {"dtype": "bfloat16"}, {"backend": "openvino"}, {}):
        assert pipeline.lora_change(replace(pipeline.spec, **change)) is None


def test_openvino_changes_a_weight_without_another_graph(
    small: Path, tmp_path: Path, graph_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = str(save_lora(tmp_path / "a.safetensors", {**pairs(1, LINEAR, TEXT), **convolution()}))
    b = str(save_lora(tmp_path / "b.safetensors", pairs(2, LINEAR, DEEP), alpha=1.0))
    first, second = (LoraUse(a, 0.6), LoraUse(b, -0.4)), (LoraUse(a, -0.9), LoraUse(b, 1.5))
    pipeline = load(spec_of(small, *first, backend="openvino"), graph_cache)
    one = drawn(pipeline)
    with monkeypatch.context() as patch:
        patch.setattr(type(pipeline.graphs.backend), "_convert", None)
        changed(pipeline, *second)
        other = drawn(pipeline)
        changed(pipeline, *first)
        assert np.array_equal(drawn(pipeline), one)
        later = load(spec_of(small, *second, backend="openvino"), graph_cache)
        kept = load(spec_of(small, *first, backend="openvino"), graph_cache)
        changed(kept, *second)
        assert np.array_equal(drawn(later), drawn(kept)), "graphs on disk serve every weight"
        assert close(drawn(later), other, 1), "a compiled graph and its file may round otherwise"
    for loras, picture in ((first, one), (second, other)):
        assert close(picture, drawn(load(spec_of(small, *loras))), 2)
    assert not close(one, other, 8)
    weighted = Settings().patched({"prompt": "(ink:1.3) paper", "strength": 0.7})
    changed(pipeline, *second)
    assert close(_drawn(pipeline, weighted), _drawn(load(spec_of(small, *second)), weighted), 2)
    assert pipeline.lora_change(replace(pipeline.spec, loras=())) is None, "graphs without branches"
    assert pipeline.lora_change(replace(pipeline.spec, loras=second[:1])) is None


def test_openvino_fuses_what_is_no_low_rank_product(small: Path, tmp_path: Path, graph_cache: Path) -> None:
    use = saved(small, tmp_path / "x", "DoRA")
    pipeline = load(spec_of(small, use, backend="openvino"), graph_cache)
    assert pipeline.lora_change(replace(pipeline.spec, loras=(replace(use, weight=0.1),))) is None
    assert close(drawn(pipeline), drawn(load(spec_of(small, use))), 2)


def _drawn(pipeline: StreamPipeline, settings: Settings) -> Pixels:
    (answer,) = pipeline.step([Entry(pipeline.open(settings), FRAME, settings)])
    assert answer.pixels is not None
    return answer.pixels.numpy()
