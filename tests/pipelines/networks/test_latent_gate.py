"""The gate of a UNet's latent: the formula, what a new one changes, files, threads, and every backend."""

import copy
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import LCMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks import clips
from pipelines import Entry, Frame, ModelError, ModelParts, Pixels, Settings, StreamSpec, describe, load
from pipelines.checkpoints.loader import networks
from pipelines.networks import latent_gate
from tests.pipelines.networks.unets import MODELS, inputs

SIZE = 128
CLIP = clips.clip("handheld", SIZE, SIZE)


def plain() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(**MODELS["pooled-prompt"]).eval().requires_grad_(False)


def gated(seed: int = 2) -> UNet2DConditionModel:
    made = plain()
    latent_gate.add(made)
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.latent_gate.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return made


def called(unet: UNet2DConditionModel, seed: int = 1) -> Tensor:
    return unet(*inputs("pooled-prompt", seed=seed)[:3], return_dict=False)[0]


def test_a_new_gate_changes_nothing_and_keeps_the_class_name() -> None:
    made = plain()
    expected = called(made)
    latent_gate.add(made)
    assert torch.equal(called(made), expected)
    assert type(made).__name__ == "UNet2DConditionModel" and isinstance(made, UNet2DConditionModel)


def test_the_output_is_the_formula_of_what_the_network_computes() -> None:
    made, seen = gated(), {}
    made.conv_out.register_forward_hook(lambda module, given, out: seen.update(h=given[0], out=out))
    made.time_embedding.register_forward_hook(lambda module, given, out: seen.update(time=out))
    made.add_embedding.register_forward_hook(lambda module, given, out: seen.update(text=out))
    out = called(made)
    x = inputs("pooled-prompt")[0]
    gate = made.latent_gate
    values = nn.functional.linear(nn.functional.silu(seen["time"] + seen["text"]), gate.time.weight, gate.time.bias)
    b, a = values[:, : x.shape[1], None, None], values[:, x.shape[1] :, None, None]
    g = nn.functional.conv2d(seen["h"], gate.gate.weight, gate.gate.bias, padding=1) + b
    torch.testing.assert_close(out, (1 - g) * seen["out"] + g * (1 + a) * x)


def test_copies_and_threads_do_not_meet() -> None:
    made = gated()
    expected = [called(made, seed) for seed in range(4)]
    other = copy.deepcopy(made)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(called, unet, seed) for _ in range(3) for seed in range(4) for unet in (made, other)]
        found = [answer.result() for answer in answers]
    for place, answer in enumerate(found):
        wanted = expected[place // 2 % 4] if place % 2 == 0 else torch.zeros_like(answer)
        torch.testing.assert_close(answer, wanted)


def test_a_file_with_a_gate_is_loaded_with_it_and_stock_diffusers_leaves_it_out(tmp_path: Path) -> None:
    made = gated()
    made.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    again = networks.build("UNet2DConditionModel", UNet2DConditionModel.load_config(tmp_path), tensors, "unet")
    assert torch.equal(called(again), called(made)) and not torch.allclose(called(made), called(plain()), atol=1e-3)
    torch.testing.assert_close(called(UNet2DConditionModel.from_pretrained(tmp_path)), called(plain()))
    tensors["latent_gate.time.weight"] = tensors["latent_gate.time.weight"][:-1]
    with pytest.raises(ModelError, match=r"latent_gate\.time\.weight has shape"):
        networks.build("UNet2DConditionModel", made.config, tensors, "unet")


def test_a_unet_without_room_for_a_gate_is_refused() -> None:
    with pytest.raises(ValueError, match="gate already"):
        latent_gate.add(gated())
    config = {**MODELS["pooled-prompt"], "in_channels": 9}
    with pytest.raises(ValueError, match="takes 9 channels"):
        latent_gate.add(UNet2DConditionModel(**config))


@pytest.fixture(scope="module")
def model(mini_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature with a gate, of sample prediction."""
    folder = Path(shutil.copytree(mini_model, tmp_path_factory.mktemp("gated") / "model"))
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    latent_gate.add(unet)
    torch.manual_seed(3)
    for parameter in unet.latent_gate.parameters():
        nn.init.normal_(parameter, std=0.2)
    unet.save_pretrained(folder / "unet")
    LCMScheduler(prediction_type="sample").save_pretrained(folder / "scheduler")
    return folder


def shown(model: Path, backend: str, cache: Path) -> list[Pixels]:
    """Full passes, shallow ones, and the decoder alone, which takes the latent."""
    pipeline = load(StreamSpec(str(model), SIZE, SIZE, backend, "float32"), cache)
    pictures: list[Pixels] = []
    for patch in ({}, {"cache.enabled": True, "cache.interval": 2}, {"cache.enabled": True, "cache.reuse": "encoder"}):
        settings = Settings().patched({"strength": 0.6, "steps": 2, "stream_batch.enabled": False, "prompt": "ink", **patch})
        state = pipeline.open(settings)
        for index in range(2):
            (answer,) = pipeline.step([Entry(state, Frame(index, index / 25, CLIP[3 * index]), settings)])
            assert answer.pixels is not None
            pictures.append(answer.pixels.numpy())
    return pictures


def test_every_pass_is_the_same_in_openvino(model: Path, mini_model: Path, graph_cache: Path) -> None:
    assert ModelParts(describe(str(model))).gated and not ModelParts(describe(str(mini_model))).gated
    for one, other in zip(shown(model, "eager", graph_cache), shown(model, "openvino", graph_cache), strict=True):
        assert np.abs(one.astype(int) - other).max() <= 2
