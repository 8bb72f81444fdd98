import pytest
import torch
from diffusers import UNet2DConditionModel

from pipelines.networks import attention
from pipelines.networks.attention import PlainAttention, choose
from pipelines.networks.modulation import modulation_size
from pipelines.networks.unet import FullPass
from tests.miniature import UNETS, full_autoencoder


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_the_unet_computes_the_same_through_the_one_place(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**UNETS[family]).eval()
    whole = FullPass(unet)
    x, text = torch.randn(1, 4, 16, 16), torch.randn(1, 8, UNETS[family]["cross_attention_dim"])
    modulation = torch.randn(1, modulation_size(unet.config))
    kinds: list[str] = []
    attend = attention.attend
    monkeypatch.setattr(attention, "attend", lambda *inputs: (kinds.append(inputs[-1]), attend(*inputs))[1])
    with torch.inference_mode():
        before = whole(x, modulation, text)[0]
        assert kinds == []
        choose(whole, "sdpa")
        torch.testing.assert_close(whole(x, modulation, text)[0], before, rtol=1e-5, atol=1e-5)
        choose(whole, "sdpa")  # a second time: graphs share their layers
    layers = [processor for processor in unet.attn_processors.values() if isinstance(processor, PlainAttention)]
    assert kinds == ["sdpa"] * len(unet.attn_processors) and len(layers) == len(unet.attn_processors)


def test_an_autoencoders_attention_stays() -> None:
    vae = full_autoencoder()
    choose(vae, "xformers")
    layer = next(module for module in vae.modules() if type(module).__name__ == "Attention")
    assert not isinstance(layer.processor, PlainAttention)


def test_a_picture_prompts_attention_gets_its_kind() -> None:
    from pipelines.networks.picture_prompt import PictureAttention

    processor = PictureAttention(4, torch.zeros(8, 8), torch.zeros(8, 8))
    choose(processor, "xformers")
    assert processor.attention_kind == "xformers"
