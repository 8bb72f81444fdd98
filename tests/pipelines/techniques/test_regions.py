import math

import pytest
import torch

from pipelines.techniques import regions
from pipelines.techniques.regions import MOST, REGIONS, SOFT, Part, divided, read, shares


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("left: ink | right: van gogh", [("ink", "left"), ("van gogh", "right")]),
        ("Top Left: ink|REST:a red fox, night", [("ink", "top left"), ("a red fox, night", "rest")]),
        ("center: (ink:1.3) | everything else: x: y", [("(ink:1.3)", "centre"), ("x: y", "rest")]),
        ("left: [a|b] <lora:a:0.5> | right:", [("[a|b] <lora:a:0.5>", "left"), ("", "right")]),
        ("painted: ink | upper third: sky | rest: photo", [("ink", "painted"), ("sky", "upper third"), ("photo", "rest")]),
        ("left: ink :0.5 | right: x", [("ink :0.5", "left"), ("x", "right")]),
    ],
)
def test_regions_are_read(prompt: str, parts: list[tuple[str, str]]) -> None:
    found = read(prompt)
    assert [(part.text, part.region) for part in found.parts] == parts and found.remark is None
    assert {part.weight for part in found.parts} == {1.0}


def test_weights_are_read() -> None:
    assert read("a cat :0.7 | ink: x :.3").parts == (Part("a cat", None, 0.7), Part("ink: x", None, 0.3))


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "oil painting",
        "left: ink",
        "a | b",
        "a|b|c|d|e|f",
        "masterpiece, (left:1.2) | right",
        "left: ink | a house",
        "a house:0.5 | b:0.5",
        "cat :0.7 | dog",
        "[left: a | right: b]",
        "(left: a | right: b)",
        "left: a \\| right: b",
        "left:: a | right:: b",
        "16:9 | 4:3",
        "http://a | http://b",
    ],
)
def test_every_other_prompt_is_one_text(prompt: str) -> None:
    assert read(prompt).parts == ()
    assert read(prompt).remark is None or "http" in prompt


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ("sky: van gogh | person: ink", "no such region as 'sky', 'person'; regions are left, right,"),
        ("left: a | left: b", "twice"),
        ("centre: a | center: b", "twice"),
        (" | ".join(f"{name}: a" for name in REGIONS[: MOST + 1]), f"{MOST} are allowed"),
        ("a :9 | b :1", "from 0 to 4"),
        ("a :0 | b :0", "from 0 to 4"),
    ],
)
def test_what_looks_like_a_composed_prompt_and_is_none_has_a_remark(prompt: str, why: str) -> None:
    found = read(prompt)
    assert found.parts == () and found.remark is not None and why in found.remark


def test_bars_divide_outside_of_brackets_alone() -> None:
    assert divided("a|b") == ["a", "b"] and divided("a (b|c) [d|e] <f|g>") == ["a (b|c) [d|e] <f|g>"]
    assert divided(")a|b(|c") == [")a", "b(|c"], "a bracket without its partner"


def parts_of(*names: str) -> list[Part]:
    return [Part(name, name) for name in names]


@pytest.mark.parametrize(
    "names", [("left", "right"), ("top left", "rest"), ("centre", "upper third", "rest"), ("painted", "left")]
)
@pytest.mark.parametrize("size", [(8, 8), (96, 64), (1, 1)])
def test_shares_are_one_in_sum_at_each_pixel(names: tuple[str, ...], size: tuple[int, int]) -> None:
    painted = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(1))
    found = shares(parts_of(*names), *size, painted)
    assert found.shape == (len(names), 1, *size) and float(found.min()) >= 0.0
    torch.testing.assert_close(found.sum(0), torch.ones(1, *size))


def test_the_border_between_halves_is_a_sigmoid_of_the_distance() -> None:
    left, right = shares(parts_of("left", "right"), 4, 64)
    for column in (0, 20, 30, 31, 32, 40, 63):
        x = (column + 0.5) / 64
        assert float(left[0, 2, column]) == pytest.approx(1 / (1 + math.exp((2 * x - 1) / SOFT)), abs=1e-5)
    torch.testing.assert_close(right.flip(2), left)


@pytest.mark.parametrize("name", regions.DEPTHS)
def test_a_region_and_the_rest_cover_what_the_name_says(name: str) -> None:
    inside = {
        "left": (0.2, 0.5), "right": (0.8, 0.5), "top": (0.5, 0.2), "bottom": (0.5, 0.8), "top left": (0.2, 0.2),
        "top right": (0.8, 0.2), "bottom left": (0.2, 0.8), "bottom right": (0.8, 0.8), "left third": (0.15, 0.5),
        "right third": (0.85, 0.5), "upper third": (0.5, 0.15), "middle third": (0.1, 0.5), "lower third": (0.5, 0.85),
        "centre": (0.5, 0.5),
    }  # fmt: skip
    found = shares(parts_of(name, "rest"), 100, 100)[0, 0]
    x, y = inside[name]
    assert float(found[int(100 * y), int(100 * x)]) > 0.99
    if name not in ("middle third", "centre"):
        assert float(found[99 - int(100 * y), 99 - int(100 * x)]) < 0.01


def test_what_is_painted_lies_above_and_without_a_mask_it_is_nowhere() -> None:
    mask = torch.zeros(1, 8, 8)
    mask[..., 2:6] = 1.0
    painted, left, right = shares(parts_of("painted", "left", "right"), 8, 8, mask)
    assert torch.equal(painted, mask) and float(left[..., 2:6].max()) == float(right[..., 2:6].max()) == 0.0
    assert float(shares(parts_of("painted", "rest"), 8, 8)[0].max()) == 0.0
    assert float(shares(parts_of("painted", "rest"), 8, 8)[1].min()) == 1.0


def test_weights_are_shares_of_their_sum() -> None:
    found = shares([Part("a", None, 2.0), Part("b", None, 0.5)], 3, 2)
    assert found.shape == (2, 1, 3, 2)
    torch.testing.assert_close(found[:, 0, 0, 0], torch.tensor([0.8, 0.2]))


def test_the_mean_of_outputs_is_composable_diffusion() -> None:
    """ε_u + Σ γ·w_i·(ε_i − ε_u), with weights per pixel, is guidance with the mean."""
    generator = torch.Generator().manual_seed(2)
    one, other, u = torch.randn(3, 4, 8, 8, generator=generator)
    weights = shares(parts_of("left", "rest"), 8, 8)
    expected = u + 1.7 * weights[0] * (one - u) + 1.7 * weights[1] * (other - u)
    torch.testing.assert_close(torch.lerp(u, regions.combined([one, other], weights), 1.7), expected)
