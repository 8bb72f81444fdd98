import math

import pytest
import torch
from torch import Tensor

from pipelines.conditioning import PromptCache, Travel, condition, spherical
from pipelines.settings import Settings


def embed(prompt: str) -> Tensor:
    return torch.randn(3, 5, generator=torch.Generator().manual_seed(sum(prompt.encode())))


def test_an_unchanged_prompt_is_encoded_once() -> None:
    calls: list[str] = []
    cache = PromptCache(lambda prompt: calls.append(prompt) or embed(prompt))
    settings = Settings().patched({"prompt": "ink"})
    for _ in range(5):
        condition(cache, settings)
    condition(cache, settings.patched({"prompt": "  ink ", "strength": 0.2}))
    assert calls == ["ink"]


def test_the_cache_is_bounded_and_forgets_the_least_recent() -> None:
    cache = PromptCache(embed, limit=2)
    for prompt in ("a", "b", "a", "c", "a", "b"):
        cache(prompt)
    assert cache.encoded == 4  # a, b, c, and b again


@pytest.mark.parametrize("mode", ["linear", "spherical"])
def test_blend_ends_at_the_two_prompts(mode: str) -> None:
    cache = PromptCache(embed)
    settings = Settings().patched({"prompt": "a", "prompt_b": "b", "blend_mode": mode})
    assert torch.equal(condition(cache, settings), embed("a"))
    assert torch.equal(condition(cache, settings.patched({"blend": 1.0})), embed("b"))
    middle = condition(cache, settings.patched({"blend": 0.5}))
    assert not torch.allclose(middle, embed("a")) and not torch.allclose(middle, embed("b"))


def test_slerp_follows_the_circle() -> None:
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    angle = math.radians(30)
    expected = torch.tensor([[math.cos(angle), math.sin(angle)]]) * (2 + 2 / 3)
    torch.testing.assert_close(spherical(a, b, 1 / 3), expected)
    torch.testing.assert_close(spherical(a, a, 0.4), a)
    assert spherical(a, -a, 0.5).isfinite().all()


def test_travel_takes_the_stated_time_from_where_it_is() -> None:
    travel, settings = Travel(), Settings().patched({"prompt": "a", "travel": 2.0})
    a, b, c = embed("a"), embed("b"), embed("c")
    assert torch.equal(travel.at(a, settings, 10.0), a)
    to_b = settings.patched({"prompt": "b"})
    assert torch.equal(travel.at(b, to_b, 11.0), a)  # the clock of the way starts with the change
    half = travel.at(b, to_b, 12.0)
    torch.testing.assert_close(half, (a + b) / 2)
    to_c = settings.patched({"prompt": "c"})
    torch.testing.assert_close(travel.at(c, to_c, 12.0), half)
    torch.testing.assert_close(travel.at(c, to_c, 12.5), half + 0.25 * (c - half))
    assert torch.equal(travel.at(c, to_c, 14.0), c)
    assert torch.equal(travel.at(c, to_c, 15.0), c)


def test_without_travel_a_change_is_at_once_and_a_blend_never_travels() -> None:
    travel, settings = Travel(), Settings().patched({"prompt": "a"})
    travel.at(embed("a"), settings, 0.0)
    assert torch.equal(travel.at(embed("b"), settings.patched({"prompt": "b"}), 0.0), embed("b"))
    slow = settings.patched({"travel": 5.0, "prompt": "b"})
    travel.at(embed("b"), slow, 1.0)
    assert torch.equal(travel.at(embed("mixed"), slow.patched({"blend": 0.5}), 1.0), embed("mixed"))
