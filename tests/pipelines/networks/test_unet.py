"""The UNet's passes against diffusers' own forward, on miniatures of every shape the studio loads."""

import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from diffusers import LatentConsistencyModelPipeline, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipelines.networks import position_bias
from pipelines.networks.modulation import ModulationPass, modulation_size
from pipelines.networks.unet import (
    DecoderPass,
    FullPass,
    ShallowPass,
    branches,
    deep_shape,
    guidance_embedding,
    skip_shapes,
)

COMMON = {"in_channels": 4, "out_channels": 4, "norm_num_groups": 4, "cross_attention_dim": 24}

MODELS = {
    # Four blocks of two layers, attention in all but the deepest, heads as a number of heads.
    "sd15": {"block_out_channels": (8, 16, 24, 24), "attention_head_dim": 4, **COMMON},
    # Heads per block, linear projections, an output that is not epsilon alone.
    "sd21": {
        "block_out_channels": (8, 16, 24, 24),
        "attention_head_dim": [2, 4, 6, 6],
        "use_linear_projection": True,
        "upcast_attention": True,
        **COMMON,
    },
    "sdxl": {
        "block_out_channels": (8, 16, 24),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, 2, 3],
        "attention_head_dim": [2, 4, 6],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 20,
        **COMMON,
    },
    # No mid block, a different number of layers per block.
    "sdxs": {
        "block_out_channels": (8, 16, 24),
        "layers_per_block": (1, 2, 3),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "mid_block_type": None,
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
        **COMMON,
    },
    # One layer per block, attention in the middle only.
    "pocket": {
        "block_out_channels": (8, 16, 24),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "mid_block_type": "UNetMidBlock2D",
        "attention_head_dim": 4,
        **COMMON,
    },
    # The prompt embedding, pooled by attention, joins the timestep and scales the normalisations.
    "pooled-prompt": {
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 4,
        "resnet_time_scale_shift": "scale_shift",
        **COMMON,
    },
    "lcm": {
        "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 4,
        "time_cond_proj_dim": 32,
        **COMMON,
    },
    "lcm-xl": {
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 20,
        "time_cond_proj_dim": 32,
        **COMMON,
    },
}


MODELS["placed"] = MODELS["pooled-prompt"]
"""As the shipped model: some convolutions know their place in the frame."""


@cache
def unet(name: str) -> UNet2DConditionModel:
    torch.manual_seed(0)
    made = UNet2DConditionModel(**MODELS[name]).eval()
    if name == "placed":
        position_bias.add(made, {"conv_in": 8, "down_blocks.0.downsamplers.0.conv": 4, "up_blocks.0.upsamplers.0.conv": 8})
        for parameter_name, parameter in made.named_parameters():
            if parameter_name.endswith(position_bias.NAME):
                nn.init.normal_(parameter, std=0.1)
    return made.requires_grad_(False)


def inputs(name: str, rows: int = 3, size: tuple[int, int] = (40, 24), seed: int = 1) -> tuple[Tensor, ...]:
    """x, t (different in each row), emb and what the model wants beside them."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 4, *size, generator=g)
    t = torch.tensor([999, 1, 400, 750])[:rows]
    added: list[Tensor] = []
    if "addition_time_embed_dim" in MODELS[name]:
        added += [torch.randn(rows, 20, generator=g), torch.randint(0, 1024, (rows, 6), generator=g).float()]
    if "time_cond_proj_dim" in MODELS[name]:
        added.append(torch.randn(rows, 32, generator=g))
    return x, t, torch.randn(rows, 7, 24, generator=g), *added


def diffusers_forward(name: str, x: Tensor, t: Tensor, emb: Tensor, *added: Tensor) -> Tensor:
    pooled_time = {}
    if "addition_time_embed_dim" in MODELS[name]:
        pooled_time = {"text_embeds": added[0], "time_ids": added[1]}
    w = added[-1] if "time_cond_proj_dim" in MODELS[name] and len(added) % 2 else None
    return unet(name)(x, t, emb, timestep_cond=w, added_cond_kwargs=pooled_time).sample


def with_modulation(name: str, x: Tensor, t: Tensor, emb: Tensor, *added: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same as the passes take it: x, modulation, emb."""
    return x, ModulationPass(unet(name))(t, emb, *added)[0], emb


every_model = pytest.mark.parametrize("name", MODELS)


@every_model
def test_the_plain_pass_is_diffusers_forward(name: str) -> None:
    given = inputs(name)
    (out,) = FullPass(unet(name))(*with_modulation(name, *given))
    expected = diffusers_forward(name, *given)
    if unet(name).config.resnet_time_scale_shift == "default":
        assert torch.equal(out, expected)
    else:  # scale and shift are multiplied into the normalisation's own first
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


@every_model
def test_the_modulation_is_as_long_as_the_configuration_says(name: str) -> None:
    _, modulation, _ = with_modulation(name, *inputs(name))
    assert modulation.shape == (3, modulation_size(unet(name).config))


@every_model
def test_every_branch_returns_a_deep_feature_from_which_the_shallow_pass_repeats_the_full_one(name: str) -> None:
    given = inputs(name)
    expected = diffusers_forward(name, *given)
    count = branches(unet(name))
    assert count == sum(len(block.resnets) for block in unet(name).down_blocks) + len(unet(name).down_blocks)
    for branch in range(count):
        out, deep = FullPass(unet(name), branch)(*with_modulation(name, *given))
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
        assert deep.shape == (3, *deep_shape(unet(name), branch, 40, 24))
        (again,) = ShallowPass(unet(name), branch)(*with_modulation(name, *given), deep)
        torch.testing.assert_close(again, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "per_block"), [("sd15", 3), ("sdxl", 3), ("pocket", 2)])
def test_a_branch_is_block_b_over_l_plus_1_layer_b_mod_l_plus_1_counted_from_the_outside(name: str, per_block: int) -> None:
    model, given, entered = unet(name), inputs(name), {}
    blocks = len(model.up_blocks)
    hooks = []
    for i, block in enumerate(model.up_blocks):
        for j, resnet in enumerate(block.resnets):
            place = (blocks - 1 - i, len(block.resnets) - 1 - j)
            hooks.append(resnet.register_forward_pre_hook(lambda _, args, place=place: entered.__setitem__(place, args[0])))
    diffusers_forward(name, *given)
    for hook in hooks:
        hook.remove()
    for branch in range(branches(model)):
        joined = entered[branch // per_block, branch % per_block]  # the hidden state, then the skip
        _, deep = FullPass(model, branch)(*with_modulation(name, *given))
        assert torch.equal(joined[:, : deep.shape[1]], deep)


@every_model
def test_the_shallow_pass_takes_detail_from_its_own_input_and_the_rest_from_the_cache(name: str) -> None:
    old, new = inputs(name, seed=1), inputs(name, seed=2)
    _, deep = FullPass(unet(name), 0)(*with_modulation(name, *old))
    shallow = ShallowPass(unet(name), 0)
    (out,) = shallow(*with_modulation(name, *new), deep)
    (repeated,) = shallow(*with_modulation(name, *old), deep)
    assert not torch.allclose(out, repeated, atol=1e-4)
    assert not torch.allclose(out, diffusers_forward(name, *new), atol=1e-4)


@every_model
def test_a_relay_also_keeps_what_the_next_branch_out_needs(name: str) -> None:
    old, new, count = inputs(name, seed=1), inputs(name, seed=2), branches(unet(name))
    for branch in range(1, count):
        _, deep = FullPass(unet(name), branch)(*with_modulation(name, *old))
        (expected,) = ShallowPass(unet(name), branch)(*with_modulation(name, *new), deep)
        out, relayed = ShallowPass(unet(name), branch, branch - 1)(*with_modulation(name, *new), deep)
        assert torch.equal(out, expected) and relayed.shape == (3, *deep_shape(unet(name), branch - 1, 40, 24))
        (again,) = ShallowPass(unet(name), branch - 1)(*with_modulation(name, *new), relayed)
        torch.testing.assert_close(again, expected, rtol=1e-5, atol=1e-5)
    for keep in (1, 2, -1):
        with pytest.raises(ValueError, match=f"branch {keep} is not further out than branch 1"):
            ShallowPass(unet(name), 1, keep)


@every_model
def test_rows_do_not_see_each_other(name: str) -> None:
    given = with_modulation(name, *inputs(name))
    out, deep = FullPass(unet(name), 1)(*given)
    (again,) = ShallowPass(unet(name), 1)(*given, deep)
    for row in range(3):
        one = [value[row : row + 1] for value in given]
        (alone,) = FullPass(unet(name))(*one)
        torch.testing.assert_close(out[row : row + 1], alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(again[row : row + 1], alone, rtol=1e-4, atol=1e-5)


@every_model
def test_the_decoder_repeats_the_full_pass_from_its_encoder(name: str) -> None:
    given = inputs(name)
    x, modulation, emb = with_modulation(name, *given)
    out, h, *skips = FullPass(unet(name), keep_encoder=True)(x, modulation, emb)
    torch.testing.assert_close(out, diffusers_forward(name, *given), rtol=1e-5, atol=1e-5)
    assert len(skips) == branches(unet(name))
    assert [tuple(skip.shape[1:]) for skip in (*skips, h)] == [*(shapes := skip_shapes(unet(name), 40, 24)), shapes[-1]]
    decoder = DecoderPass(unet(name))
    assert torch.equal(decoder(modulation, emb, h, *skips)[0], out)
    _, earlier, _ = with_modulation(name, x, given[1] - 1, *given[2:])
    (later,) = decoder(earlier, emb, h, *skips)
    assert later.shape == out.shape and not torch.equal(later, out), "the timestep still enters the resnets"


def test_one_timestep_serves_all_rows() -> None:
    x, _, emb = inputs("sd15")
    expected = diffusers_forward("sd15", x, torch.tensor([300, 300, 300]), emb)
    torch.testing.assert_close(FullPass(unet("sd15"))(*with_modulation("sd15", x, torch.tensor([300]), emb))[0], expected)


def test_the_guidance_embedding_of_an_lcm_is_optional() -> None:
    x, t, emb, w = inputs("lcm")
    full = FullPass(unet("lcm"))
    without, with_w = full(*with_modulation("lcm", x, t, emb))[0], full(*with_modulation("lcm", x, t, emb, w))[0]
    assert torch.equal(without, diffusers_forward("lcm", x, t, emb))
    assert not torch.allclose(without, with_w, atol=1e-4)


def test_the_guidance_embedding_is_the_one_lcms_were_distilled_with() -> None:
    w = torch.tensor([0.0, 0.5, 7.5])
    theirs = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, w, 256)
    torch.testing.assert_close(guidance_embedding(w, 256), theirs)


@pytest.mark.parametrize("branch", [-1, 12, 100, True, 1.0, None])
def test_a_branch_that_does_not_exist_is_refused_by_name_and_range(branch: object) -> None:
    makers: list[Callable[[], object]] = [
        lambda: ShallowPass(unet("sd15"), branch),
        lambda: deep_shape(unet("sd15"), branch, 8, 8),
    ]
    if branch is not None:
        makers.append(lambda: FullPass(unet("sd15"), branch))
    for make in makers:
        with pytest.raises(ValueError, match="branches 0 to 11"):
            make()


def test_wrong_inputs_are_refused() -> None:
    x, t, emb, pooled, ids = inputs("sdxl")
    for added in ((), (pooled,), (pooled, ids, ids)):
        with pytest.raises(ValueError, match="pooled, time_ids"):
            ModulationPass(unet("sdxl"))(t, emb, *added)
    with pytest.raises(ValueError, match="takes none"):
        ModulationPass(unet("pocket"))(t, emb, pooled)
    with pytest.raises(ValueError, match="multiples of 8"):
        FullPass(unet("sd15"))(*with_modulation("sd15", *inputs("sd15", size=(40, 20))))
    with pytest.raises(ValueError, match="either"):
        FullPass(unet("sd15"), 0, keep_encoder=True)
    with pytest.raises(ValueError, match="2 skips given; this UNet has 9"):
        DecoderPass(unet("sdxs"))(emb, emb, x, x, x)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_class_embeds": 3}, "num_class_embeds"),
        ({"class_embed_type": "timestep"}, "class_embed_type"),
        ({"addition_embed_type": "image", "encoder_hid_dim": 24}, "addition_embed_type"),
        ({"encoder_hid_dim_type": "text_proj", "encoder_hid_dim": 24}, "encoder_hid_dim_type"),
        ({"center_input_sample": True}, "center_input_sample"),
        ({"attention_type": "gated"}, "attention_type"),
        ({"down_block_types": ("ResnetDownsampleBlock2D",) * 3}, "ResnetDownsampleBlock2D"),
    ],
)
def test_a_unet_that_would_be_computed_wrongly_is_refused_by_name(change: dict[str, object], named: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=named):
        FullPass(UNet2DConditionModel(**{**MODELS["sdxs"], **change}))


def test_freeu_is_refused() -> None:
    torch.manual_seed(0)
    model = UNet2DConditionModel(**MODELS["pocket"])
    model.enable_freeu(s1=0.9, s2=0.2, b1=1.1, b2=1.2)
    with pytest.raises(ValueError, match="FreeU"):
        ShallowPass(model, 0)


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
        ShallowPass(unet("pocket"), 3), (*given, torch.randn(3, *deep_shape(unet("pocket"), 3, 40, 24)))
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
