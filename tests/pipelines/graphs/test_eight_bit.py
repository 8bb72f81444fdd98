"""Which products are worth eight bits on a GPU."""

from torch import nn

from benchmarks import clips
from pipelines.graphs.backends import selection

SIZE = 128
CLIP = clips.clip("handheld", SIZE, SIZE)


def test_products_of_transformer_blocks_alone_are_worth_eight_bits() -> None:
    wide, odd = nn.Linear(32, 64), nn.Linear(32, 60)
    inside = "up.0.attention.transformer_blocks.0.attn1.to_q"
    assert selection.eight_bit.worth(wide, inside)
    assert not selection.eight_bit.worth(wide, "embed.time_embedding.linear_1")
    assert not selection.eight_bit.worth(odd, inside) and not selection.eight_bit.worth(nn.Conv2d(32, 32, 1), inside)
