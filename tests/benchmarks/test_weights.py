import pytest

from benchmarks.weights import WEIGHTS, filled, int8_line, psnr_table


def test_what_stands_between_the_comments_is_replaced() -> None:
    card = "before\n<!-- a -->\nold\nlines\n<!-- /a -->\nafter\n<!-- b -->\n<!-- /b -->\n"
    assert filled(card, "a", "\nnew\n") == "before\n<!-- a -->\nnew\n<!-- /a -->\nafter\n<!-- b -->\n<!-- /b -->\n"
    assert "<!-- b -->\n| x |\n<!-- /b -->" in filled(card, "b", "| x |")
    for text in ("nothing", card + card):
        with pytest.raises(ValueError, match="'a'"):
            filled(text, "a", "new")


def test_every_place_that_is_filled_is_in_the_model_card() -> None:
    card = (WEIGHTS / "README.md").read_text(encoding="utf-8")
    for name in ("evaluation", "psnr", "int8"):
        assert "XYZ" in filled(card, name, "XYZ")


def test_tables() -> None:
    assert psnr_table({"cat": 30.0, "dog": 33.14}) == "| cat | dog | mean |\n|---|---|---|\n| 30.0 | 33.1 | 31.6 |"
    one, four = {"ssim_mean": 0.9784, "ssim_worst": 0.7, "psnr_mean_db": 37.24}, {"ssim_mean": 0.8, "ssim_worst": 0.324}
    line = int8_line({"looks": 3, "ratio": 2.156, **one, "at_four": four})
    for figure in ("2.16 times", "0.978", "0.700", "37.2 dB", "at four steps SSIM 0.800", "0.324 at worst"):
        assert figure in line
