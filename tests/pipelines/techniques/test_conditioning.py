import math

import pytest
import torch

from pipelines.networks.unet import guidance_embedding
from pipelines.techniques.conditioning import (
    CACHED_LEVELS,
    Additions,
    Condition,
    Conditions,
    PromptCache,
    Text,
    Travel,
    spherical,
)
from pipelines.techniques.styles import Style
from pipelines.values.settings import Settings


def embed(prompt: str) -> Text:
    """An embedding [3, 5] and a pooled text [4]."""
    generator = torch.Generator().manual_seed(sum(prompt.encode()))
    return Text((torch.randn(3, 5, generator=generator), torch.randn(4, generator=generator)))


def equal(a: Text, b: Text) -> bool:
    return len(a.encoded) == len(b.encoded) and all(torch.equal(*pair) for pair in zip(a.encoded, b.encoded, strict=True))


def between(a: Text, b: Text, weight: float) -> tuple[torch.Tensor, ...]:
    return tuple(x + weight * (y - x) for x, y in zip(a.encoded, b.encoded, strict=True))


def test_an_unchanged_prompt_is_encoded_once() -> None:
    calls: list[str] = []
    cache = PromptCache(lambda prompt: calls.append(prompt) or embed(prompt))
    settings = Settings().patched({"prompt": "ink"})
    for _ in range(5):
        cache.blend(settings)
    cache.blend(settings.patched({"prompt": "  ink ", "strength": 0.2}))
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
    assert equal(cache.blend(settings), embed("a"))
    assert equal(cache.blend(settings.patched({"blend": 1.0})), embed("b"))
    middle = cache.blend(settings.patched({"blend": 0.5}))
    for value, a, b in zip(middle.encoded, embed("a").encoded, embed("b").encoded, strict=True):
        assert not torch.allclose(value, a) and not torch.allclose(value, b)


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
    assert equal(travel.at(a, settings, 10.0), a)
    to_b = settings.patched({"prompt": "b"})
    assert equal(travel.at(b, to_b, 11.0), a)  # the clock of the way starts with the change
    half = travel.at(b, to_b, 12.0)
    torch.testing.assert_close(half.encoded, between(a, b, 0.5))
    to_c = settings.patched({"prompt": "c"})
    torch.testing.assert_close(travel.at(c, to_c, 12.0).encoded, half.encoded)
    torch.testing.assert_close(travel.at(c, to_c, 12.5).encoded, between(half, c, 0.25))
    assert equal(travel.at(c, to_c, 14.0), c)
    assert equal(travel.at(c, to_c, 15.0), c)


def test_without_travel_a_change_is_at_once_and_a_blend_never_travels() -> None:
    travel, settings = Travel(), Settings().patched({"prompt": "a"})
    travel.at(embed("a"), settings, 0.0)
    assert equal(travel.at(embed("b"), settings.patched({"prompt": "b"}), 0.0), embed("b"))
    slow = settings.patched({"travel": 5.0, "prompt": "b"})
    travel.at(embed("b"), slow, 1.0)
    assert equal(travel.at(embed("mixed"), slow.patched({"blend": 0.5}), 1.0), embed("mixed"))


def test_a_model_gets_its_inputs_in_the_order_of_the_passes() -> None:
    text, time_ids = embed("a"), torch.arange(6.0)
    settings = Settings().patched({"guidance": 3.0})
    plain = Additions().complete(Text(text.encoded[:1]), settings)
    assert torch.equal(plain.embedding, text.encoded[0]) and plain.added == () and plain.guidance is None
    full = Additions(time_ids, 8).complete(text, settings)
    assert full.guidance == 3.0
    pooled, times, w = full.added
    assert torch.equal(pooled, text.encoded[1]) and torch.equal(times, time_ids)
    torch.testing.assert_close(w, guidance_embedding(torch.tensor([2.0]), 8)[0])  # w = γ − 1


def test_guidance_by_rows_is_not_applied_again_inside_the_network() -> None:
    settings = Settings().patched({"guidance": 3.0, "guidance_mode": "full"})
    made = Additions(w_size=8).complete(Text(embed("a").encoded[:1]), settings)
    assert made.guidance == 1.0
    torch.testing.assert_close(made.added[0], guidance_embedding(torch.tensor([0.0]), 8)[0])


def test_what_was_computed_from_a_condition_stays_with_it_until_its_text_or_scale_changes() -> None:
    prompts, conditions, calls = PromptCache(embed), Conditions(Additions(w_size=8)), []

    def compute(timestep: int, condition: Condition) -> torch.Tensor:
        calls.append((timestep, condition.guidance))
        return torch.full((3,), float(timestep))

    settings = Settings().patched({"prompt": "a", "prompt_b": "b", "blend": 0.5, "guidance": 2.0})
    for timestep in (500, 250, 500):
        condition = conditions(prompts.blend(settings), settings)
        assert torch.equal(condition.modulation(timestep, compute), torch.full((3,), float(timestep)))
    assert calls == [(500, 2.0), (250, 2.0)]
    for changed in ({"blend": 0.6}, {"guidance": 3.0}, {"blend_mode": "spherical"}, {"prompt": "c"}):
        other = settings.patched(changed)
        assert conditions(prompts.blend(other), other).modulations == {}
    assert conditions(prompts.blend(settings), settings).modulations


def test_remembered_levels_and_conditions_are_bounded() -> None:
    condition = Condition(torch.zeros(1, 1))
    for timestep in range(3 * CACHED_LEVELS):
        condition.modulation(timestep, lambda timestep, _: torch.tensor([timestep]))
    assert [t for _, t in condition.modulations] == list(range(2 * CACHED_LEVELS, 3 * CACHED_LEVELS))
    conditions, texts, settings = Conditions(Additions(), limit=2), [embed(name) for name in "abc"], Settings()
    first = conditions(texts[0], settings)
    assert conditions(texts[1], settings) is not first and conditions(texts[0], settings) is first
    conditions(texts[2], settings)
    assert conditions(texts[0], settings) is first, "the least recent went"


def test_no_negative_prompt_is_a_text_of_zeros_where_the_model_was_trained_so() -> None:
    prompts, settings = PromptCache(embed), Settings()
    blank = Additions(empty_is_zero=True).negative(prompts, settings)
    assert all(not value.any() for value in blank.encoded) and Additions(empty_is_zero=True).negative(prompts, settings) is blank
    assert equal(Additions().negative(prompts, settings), embed(""))
    some = settings.patched({"negative": "ink"})
    assert equal(Additions(empty_is_zero=True).negative(prompts, some), embed("ink"))


def test_a_style_is_mixed_with_its_prompt_and_stays_with_its_condition() -> None:
    paint = Style(torch.tensor([2.0, 4.0]))
    cache = PromptCache(lambda prompt: Text(embed(prompt).encoded, paint if prompt == "brush" else None))
    settings = Settings().patched({"prompt": "photo", "prompt_b": "brush", "blend": 0.25, "blend_mode": "spherical"})
    condition = Conditions(Additions())(cache.blend(settings), settings)
    assert condition.style is not None and condition.style.amount == 0.25
    torch.testing.assert_close(condition.style.numbers, paint.numbers)  # paint fades, its style stays
    assert Conditions(Additions())(cache("photo"), settings).style is None
    travel, slow = Travel(), settings.patched({"travel": 2.0, "blend": 0.0})
    travel.at(cache("photo"), slow, 0.0)
    arriving = slow.patched({"prompt": "brush"})
    travel.at(cache("brush"), arriving, 1.0)
    half = travel.at(cache("brush"), arriving, 2.0)
    assert half.style is not None and half.style.amount == 0.5


def chunked(prompt: str, skip: int = 0) -> Text:
    """A chunk [3, 5] for each word, and a pooled text [4]."""
    words = prompt.split() or [""]
    return Text((torch.cat([embed(f"{word}{skip or ''}").encoded[0] for word in words]), embed(words[0]).encoded[1]))


def test_the_empty_prompt_fills_up_the_shorter_of_two_texts() -> None:
    cache = PromptCache(chunked)
    a, b = cache.alike(cache("a"), cache("b c d"))
    empty = embed("").encoded[0]
    assert torch.equal(a.encoded[0], torch.cat([embed("a").encoded[0], empty, empty]))
    assert torch.equal(a.encoded[1], embed("a").encoded[1]) and b is cache("b c d")
    assert cache.alike(cache("a"), cache("b c d"))[0] is a, "it comes again, so what was computed from it counts"
    zero = cache.alike(cache.blank(), cache("b c d"))[0]
    assert zero.encoded[0].shape == (9, 5) and not zero.encoded[0].any()
    settings = Settings().patched({"prompt": "a", "prompt_b": "b c", "blend": 0.5})
    assert cache.blend(settings).encoded[0].shape == (6, 5)


def test_travel_between_texts_of_two_lengths() -> None:
    cache, travel, settings = PromptCache(chunked), Travel(), Settings().patched({"prompt": "a", "travel": 2.0})
    travel.at(cache("a"), settings, 0.0, cache.alike)
    there = settings.patched({"prompt": "b c"})
    travel.at(cache("b c"), there, 1.0, cache.alike)
    half = travel.at(cache("b c"), there, 2.0, cache.alike)
    torch.testing.assert_close(half.encoded, between(*cache.alike(cache("a"), cache("b c")), 0.5))
    assert travel.at(cache("b c"), there, 3.0, cache.alike) is cache("b c")
    back = settings.patched({"prompt": "a"})
    travel.at(cache("a"), back, 4.0, cache.alike)
    assert travel.at(cache("a"), back, 9.0, cache.alike) is cache("a"), "short again at the end"


def test_layers_that_are_left_out_make_another_text() -> None:
    cache = PromptCache(chunked)
    settings = Settings().patched({"prompt": "a", "negative": "b", "clip_skip": 2})
    assert equal(cache.blend(settings), chunked("a", 2)) and equal(cache.blend(settings.patched({"clip_skip": 0})), chunked("a"))
    assert equal(Additions().negative(cache, settings), chunked("b", 2))
