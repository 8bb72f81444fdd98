"""Judges of pictures: each figure is right where the answer is known, and floors are judged as they are written."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from training.judging import measures, report, texture
from training.judging.judge import Judge
from training.judging.subject import Look, Picture

SIDE = 128


def photograph(seed: int, side: int = SIDE) -> Picture:
    """Blurred noise of full contrast."""
    noise = np.random.default_rng(seed).normal(0, 1, (side, side, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 5)
    return np.asarray((128 + 50 * smooth / smooth.std()).clip(0, 255).astype(np.uint8))


def shifted(picture: Picture, by: int) -> Picture:
    return np.roll(picture, by, axis=1)


class Spectrum:
    """Statistics of a picture that need no package: its mean and the spread of its differences."""

    def statistics(self, picture: Picture) -> texture.Statistics:
        x = picture.astype(np.float32)
        return {"mean": x.mean((0, 1)), "detail": np.array([np.diff(x, axis=0).std(), np.diff(x, axis=1).std()])}


def gradient(picture: Picture) -> measures.Map:
    grey = picture.mean(-1).astype(np.float32)
    return np.hypot(*np.gradient(grey)).astype(np.float32)


class Negatives:
    """A model whose every look is the negative, or the photograph itself at strength below 0.5; seeds are shades of grey."""

    def clip(self, frames: Sequence[Picture], prompt: str, strength: float = 0.5, steps: int = 1, seed: int = 0) -> list[Picture]:
        return [255 - frame if prompt == "negative" else frame for frame in frames]

    def dream(self, prompt: str, seed: int) -> Picture:
        return np.full((SIDE, SIDE, 3), 20 * seed, np.uint8)


def test_flow_follows_what_moves() -> None:
    """A scene that slides is steady along the flow, however large the difference of neighbours; flicker is not."""
    scene = photograph(0)
    clip = [shifted(scene, 3 * k) for k in range(4)]
    flow = measures.Flow(clip)
    assert measures.change(clip) > 10 and flow.error(clip) < 1
    brighter = [np.minimum(frame, 245) + 10 for frame in clip]
    assert flow.apart(clip, clip, True) == 0 and flow.apart(brighter, clip, True) > 5 < flow.apart(brighter, clip, False)
    flicker = [np.asarray((frame.astype(int) + 12 * (k % 2)).clip(0, 255), np.uint8) for k, frame in enumerate(clip)]
    assert 10 < flow.error(flicker) < 13


def test_edges_kept_is_the_share_of_what_the_teacher_keeps() -> None:
    source, other = gradient(photograph(0)), gradient(photograph(1))
    assert measures.edges_kept(source, source, source) == pytest.approx(1)
    assert measures.edges_kept(source, source, other) < 0.3
    faint = source + 2 * other
    assert measures.edges_kept(source, faint, source) > 1.5
    assert measures.edges_kept(source, source, np.zeros_like(source)) == 0


def test_differences_of_still_scenes_seeds_and_looks() -> None:
    flat = np.full((64, 64, 3), 100, np.uint8)
    still = measures.noisy(flat, 3, level=5)
    assert 4 < measures.change(still) < 7 and not np.array_equal(still[0], still[1])
    assert measures.spread([flat, flat + 10, flat + 30]) == pytest.approx(20)
    looks = {"a": [flat], "b": [flat + 6], "c": [flat + 50]}
    assert measures.closest(looks, 14) == [(6.0, "a", "b")]
    assert measures.closest({name: looks[name] for name in "ac"}, 14) == [(50.0, "a", "c")]
    assert measures.closest({"a": [flat]}, 14) == []


def test_style_share_is_none_for_the_teachers_picture_and_all_for_the_photograph() -> None:
    pictures = [photograph(k) for k in range(3)]
    known = [Spectrum().statistics(picture) for picture in pictures]
    taught = [Spectrum().statistics(cv2.GaussianBlur(picture, (0, 0), 3)) for picture in pictures]
    halfway = [{kind: (a[kind] + b[kind]) / 2 for kind in a} for a, b in zip(known, taught, strict=True)]
    scale = texture.scales([*known, *taught])
    assert texture.share(taught, taught, known, scale) == 0
    assert texture.share(known, taught, known, scale) == pytest.approx(1)
    assert texture.share(halfway, taught, known, scale) == pytest.approx(0.5, abs=1e-3)
    assert np.isnan(texture.share(taught, known, known, scale))  # a look that is the photograph has no style to miss


def test_kinds_of_statistics_count_alike_however_many_numbers_they_have() -> None:
    """nan are those that only repeat others."""
    zero = {"few": np.zeros(1, np.float32), "many": np.zeros(100, np.float32)}
    one = {"few": np.ones(1, np.float32), "many": np.zeros(100, np.float32)}
    some = {"few": np.zeros(1, np.float32), "many": np.array([1.0, *[np.nan] * 99], np.float32)}
    scale = {"few": np.ones(1, np.float32), "many": np.ones(100, np.float32)}
    assert texture.distance(zero, one, scale) == texture.distance(zero, some, scale) == 0.5


def test_plenoptics_statistics_distinguish_grain_from_strokes() -> None:
    pytest.importorskip("plenoptic")
    judge = texture.Texture()
    fine, coarse = photograph(0, 256), cv2.GaussianBlur(photograph(0, 256), (0, 0), 8)
    known = [judge.statistics(photograph(k, 256)) for k in (1, 2)]
    scale = texture.scales([*known, judge.statistics(coarse)])
    assert texture.distance(judge.statistics(fine), known[0], scale) < texture.distance(judge.statistics(coarse), known[0], scale)
    with pytest.raises(ValueError, match="sides of at least 256"):
        judge.statistics(coarse[:200])


@pytest.fixture(scope="module")
def judged() -> dict:
    looks = [
        Look("negative", "negative", False, lambda x: np.asarray(255 - x)),
        Look("none", "none", False, lambda x: np.asarray(255 - x)),
    ]
    clip = [shifted(photograph(3), 2 * k) for k in range(3)]
    pictures = {"one": photograph(0), "two": photograph(1)}
    return Judge(Negatives(), looks, pictures, [clip], Spectrum(), gradient, strengths=("none",)).report()


def test_a_look_that_is_its_teachers_has_the_best_figures(judged: dict) -> None:
    rows = judged["looks"]
    assert rows["negative"]["style"] == 0 and rows["none"]["style"] == 1
    assert rows["negative"]["lattice"] == rows["negative"]["teacher lattice"]
    assert rows["negative"]["edges"] == rows["negative"]["warped"] == rows["negative"]["still"] == 1
    assert rows["none"]["moved"] == 0 and rows["negative"]["moved"] > 20


def test_the_report_has_curves_seeds_and_the_closest_pair(judged: dict) -> None:
    assert judged["strength"]["none"]["moved"] == [0.0] * 6 and not judged["strength"]["none"]["grows"]
    assert judged["seeds"]["sea, none"] == pytest.approx(26.7, abs=0.1)  # 20, 20 and 40 grey levels
    assert judged["closest"][0][1:] == ["negative", "none"]


@pytest.mark.parametrize(
    ("name", "figures", "missed"),
    [
        ("oil", {"lattice": 5.0, "teacher lattice": 5.0}, 1),
        ("oil", {"lattice": 3.9, "teacher lattice": 0.1}, 0),
        ("photo", {"lattice": 1.2, "teacher lattice": 5.0}, 1),
        ("halftone", {"lattice": 50.0, "teacher lattice": 40.0}, 0),
        ("halftone", {"lattice": 70.0, "teacher lattice": 40.0}, 1),
        ("oil", {"edges": 0.5, "style": 0.7, "warped": 1.1, "still": 1.6}, 4),
        ("oil", {"edges": 0.7, "style": 0.5, "warped": 0.9, "still": 1.4}, 0),
        ("oil", {"grain L": 2.1, "grain a": 0.8, "grain b": 0.6}, 2),
    ],
)
def test_floors(name: str, figures: dict[str, float], missed: int) -> None:
    assert len(report.failures(name, figures)) == missed


def test_table_and_summary_name_what_is_missed() -> None:
    found = {
        "looks": {"oil": {"lattice": 22.0, "teacher lattice": 1.0, "style": 0.5}, "ink": {"lattice": 1.0, "style": 0.3}},
        "closest": [[11.0, "oil", "ink"]],
        "seeds": {"sea": 3.0, "city": 20.0},
    }
    assert "| oil | 22.00 | 1.00 |" in report.table(found) and "lattice 22.00 |" in report.table(found)
    summary = report.summary(found)
    assert summary["missed"] == {"lattice": ["oil"]} and summary["style, mean"] == 0.4 and summary["style, mean, met"]
    assert summary["seeds met"] == {"sea": False, "city": True} and summary["pairs closer than 14"] == [[11.0, "oil", "ink"]]


def test_the_short_table_has_means_and_the_worst_of_both_kinds() -> None:
    oil, ink = {"lattice": 2.0, "edges": 0.9, "style": 0.5}, {"lattice": 1.0, "edges": 0.7, "style": 0.3}
    rows = {"oil": oil, "ink": ink, "neon": {"lattice": 6.0}}
    found = report.brief({"looks": rows}, frozenset({"oil", "ink"}))
    assert "| figure | floor | 2 painted looks | 1 looks of the UNet |" in found
    assert "| lattice | ≤ 4 | 1.50 (2.00, oil) | 6.00 (6.00, neon) |" in found
    assert "| edges | ≥ 0.6 | 0.80 (0.70, ink) |  |" in found
    assert "- lattice: 1 looks (neon)" in found
