"""The UNet's passes against diffusers' own forward, on miniatures of every shape the studio loads."""

from collections.abc import Callable

import pytest
import torch
from diffusers import LatentConsistencyModelPipeline, UNet2DConditionModel

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
from tests.pipelines.networks.unets import MODELS, diffusers_forward, inputs, unet, with_modulation

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
def test_the_modulation_has_the_length_of_the_configuration(name: str) -> None:
    _, modulation, _ = with_modulation(name, *inputs(name))
    assert modulation.shape == (3, modulation_size(unet(name).config, name == "gated"))


@every_model
def test_every_branch_returns_a_deep_feature_from_which_the_shallow_pass_repeats_the_full_one(name: str) -> None:
    given = inputs(name)
    expected = diffusers_forward(name, *given)
    count = branches(unet(name))
    assert count == sum(len(block.resnets) for block in unet(name).down_blocks) + len(unet(name).down_blocks)
    for branch in range(count):
        out, deep = FullPass(unet(name), branch)(*with_modulation(name, *given))
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
        assert deep.shape == (3, *deep_shape(unet(name), branch, 24, 16))
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
        assert torch.equal(out, expected) and relayed.shape == (3, *deep_shape(unet(name), branch - 1, 24, 16))
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
    assert [tuple(skip.shape[1:]) for skip in (*skips, h)] == [*(shapes := skip_shapes(unet(name), 24, 16)), shapes[-1]]
    decoder, latent = DecoderPass(unet(name)), (x,) * (name == "gated")
    assert torch.equal(decoder(*latent, modulation, emb, h, *skips)[0], out)
    _, earlier, _ = with_modulation(name, x, given[1] - 1, *given[2:])
    (later,) = decoder(*latent, earlier, emb, h, *skips)
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
