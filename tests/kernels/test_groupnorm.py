import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import nn

from kernels.groupnorm import ChannelGroupNorm, ModulatedGroupNorm, rewrite


@pytest.mark.parametrize("channels, groups", [(32, 8), (12, 12), (10, 1), (96, 32)])
def test_it_is_group_norm(channels: int, groups: int) -> None:
    generator = torch.Generator().manual_seed(channels)
    norm = nn.GroupNorm(groups, channels, eps=1e-5)
    nn.init.normal_(norm.weight, generator=generator)
    nn.init.normal_(norm.bias, generator=generator)
    x = 3 + 5 * torch.randn(3, channels, 7, 5, generator=generator)
    torch.testing.assert_close(ChannelGroupNorm(norm)(x), norm(x), rtol=1e-4, atol=1e-4)


def test_pictures_norms_are_rewritten_and_attentions_stay() -> None:
    module = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Sequential(nn.GroupNorm(2, 8)), Attention(8, norm_num_groups=2))
    rewritten = rewrite(module)
    kinds = [type(part).__name__ for part in rewritten.modules()]
    assert kinds.count("ChannelGroupNorm") == 1 and kinds.count("GroupNorm") == 1
    assert rewrite(rewritten) is rewritten  # a second time changes nothing
    assert [type(part).__name__ for part in rewritten.modules()] == kinds


def test_scale_and_shift_come_with_each_row() -> None:
    generator = torch.Generator().manual_seed(0)
    x = 2 + 3 * torch.randn(2, 6, 5, 4, generator=generator)
    scale, shift = torch.randn(2, 6, generator=generator), torch.randn(2, 6, generator=generator)
    plain = nn.Sequential()
    plain.norm = ModulatedGroupNorm(3, 1e-5)
    expected = torch.empty_like(x)
    for row in range(2):
        for group in range(3):
            values = x[row, 2 * group : 2 * group + 2]
            unit = (values - values.mean()) / (values.var(correction=0) + 1e-5).sqrt()
            for k in (2 * group, 2 * group + 1):
                expected[row, k] = unit[k - 2 * group] * scale[row, k] + shift[row, k]
    torch.testing.assert_close(plain.norm(x, scale, shift), expected, rtol=1e-4, atol=1e-4)
    rewrite(plain)
    assert type(plain.norm).__name__ == "ChannelModulatedGroupNorm"
    torch.testing.assert_close(plain.norm(x, scale, shift), expected, rtol=1e-4, atol=1e-4)
