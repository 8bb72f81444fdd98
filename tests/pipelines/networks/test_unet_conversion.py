"""The UNet's passes outside of eager PyTorch: captured, exported, converted; and what they compute."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipelines.networks.modulation import ModulationPass, modulation_size
from pipelines.networks.unet import (
    DecoderPass,
    FullPass,
    ShallowPass,
    deep_shape,
)
from tests.pipelines.networks.unets import diffusers_forward, inputs, unet, with_modulation


def test_the_shallow_pass_holds_only_what_it_runs() -> None:
    everything, outer = (sum(p.numel() for p in module.parameters()) for module in (unet("sd15"), ShallowPass(unet("sd15"), 0)))
    assert outer < everything / 10
    used = set(map(id, ShallowPass(unet("sd15"), 0).parameters()))
    assert used < set(map(id, unet("sd15").parameters())), "weights are shared, not copied"


def multiply_adds(module: torch.nn.Module, *inputs: torch.Tensor) -> int:
    """Of one call, by running it (free on the meta device): convolutions, products, attention."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return int(counter.get_total_flops()) // 2


def test_shares_of_the_multiply_adds_of_sd_turbo() -> None:
    with torch.device("meta"):
        sd21 = UNet2DConditionModel(cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True)
        given = torch.zeros(1, 4, 64, 64), torch.zeros(1, modulation_size(sd21.config)), torch.zeros(1, 77, 1024)
        full = multiply_adds(FullPass(sd21), *given)
        assert full == pytest.approx(402e9, rel=0.002)
        for branch, share in ((0, 0.079), (1, 0.224), (2, 0.380)):
            deep = torch.zeros(1, *deep_shape(sd21, branch, 64, 64))
            assert multiply_adds(ShallowPass(sd21, branch), *given, deep) / full == pytest.approx(share, abs=0.001)
        _, *encoder = FullPass(sd21, keep_encoder=True)(*given)
        assert multiply_adds(DecoderPass(sd21), *given[1:], *encoder) / full == pytest.approx(0.674, abs=0.001)


def test_multiply_adds_by_hand() -> None:
    with torch.device("meta"):
        assert multiply_adds(torch.nn.Conv2d(3, 5, 3, padding=1), torch.zeros(2, 3, 8, 8)) == 2 * 64 * 3 * 5 * 9
        assert multiply_adds(torch.nn.Linear(7, 11), torch.zeros(2, 7)) == 2 * 7 * 11


def test_the_passes_are_one_graph_each() -> None:
    torch.compiler.reset()  # a class that has reached the limit of graphs in one process is compiled no more
    name = "pooled-prompt"
    plain = inputs(name)
    expected = diffusers_forward(name, *plain)
    modulate = torch.compile(ModulationPass(unet(name)), backend="eager", fullgraph=True, dynamic=False)
    given = (plain[0], modulate(*plain[1:])[0], plain[2])
    full = torch.compile(FullPass(unet(name), 1), backend="eager", fullgraph=True, dynamic=False)
    shallow = torch.compile(ShallowPass(unet(name), 1), backend="eager", fullgraph=True, dynamic=False)
    out, deep = full(*given)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shallow(*given, deep)[0], expected, rtol=1e-4, atol=1e-5)


def test_attention_is_one_fused_operation() -> None:
    given = with_modulation("pocket", *inputs("pocket"))
    program = torch.export.export(
        ShallowPass(unet("pocket"), 3), (*given, torch.randn(3, *deep_shape(unet("pocket"), 3, 24, 16)))
    )
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert any("scaled_dot_product_attention" in target for target in called)
    assert not any("softmax" in target for target in called)


def test_the_passes_convert_to_openvino() -> None:
    import openvino as ov

    name = "lcm-xl"

    def convert(module: torch.nn.Module, *example: Tensor) -> Callable[..., list[np.ndarray]]:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # OpenVINO traces with torch.jit, which calls itself deprecated and remarks on asserts
            model = ov.convert_model(module, example_input=example, input=[list(value.shape) for value in example])
        compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda *values: [compiled([value.numpy() for value in values])[i] for i in range(len(compiled.outputs))]

    plain = inputs(name, rows=2, seed=1)
    old, new = with_modulation(name, *plain), with_modulation(name, *inputs(name, rows=2, seed=2))
    np.testing.assert_allclose(convert(ModulationPass(unet(name)), *plain[1:])(*plain[1:])[0], old[1], atol=1e-3)
    out, deep = FullPass(unet(name), 1)(*old)
    full = convert(FullPass(unet(name), 1), *old)
    got, got_deep = full(*old)
    np.testing.assert_allclose(got, out, atol=1e-3)
    np.testing.assert_allclose(got_deep, deep, atol=1e-3)
    module = ShallowPass(unet(name), 1)
    shallow = convert(module, *old, deep)
    np.testing.assert_allclose(shallow(*old, deep)[0], out, atol=1e-3)
    mixed = (*new, deep)
    np.testing.assert_allclose(shallow(*mixed)[0], module(*mixed)[0], atol=1e-3)
