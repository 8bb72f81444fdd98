"""Makes everything that depends on the pocket model's weights: `python -m benchmarks.weights`. Run it after a change of weights.

The order is: picture sheets, evaluation (benchmarks/results/pictures.json and the tables of the model card; it needs
requirements-judging.txt), loss and gain of int8 (and its calibration pictures), thumbnails of the page, benchmark figures in
benchmarks/results. `--only NAME ...` selects some of them. Commands that need Chromium or other engines are left out: `bench
browser`, `bench peers`, and `python -m tests.browser.pictures`.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.values.vocabulary import read_vocabulary
from training.judging import report

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "assets" / "pocket"
PICTURES = ROOT / "benchmarks/results/pictures.json"
BENCHMARKS = ("engine", "ablation", "scaling", "sessions", "live")


def filled(card: str, name: str, text: str) -> str:
    """`card` with `text` between <!-- name --> and <!-- /name -->. Raises ValueError unless the card has exactly one such
    pair."""
    found, times = re.subn(
        rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda marks: f"{marks[1]}{text.strip()}\n{marks[2]}", card, flags=re.DOTALL
    )
    if times != 1:
        raise ValueError(f"the model card has {times} places for {name!r}, not one")
    return found


def psnr_table(figures: dict[str, float]) -> str:
    """PSNR in dB by picture as one Markdown row, with their mean."""
    named = {**figures, "mean": sum(figures.values()) / max(1, len(figures))}
    rows = (" | ".join(named), "|".join("---" for _ in named), " | ".join(f"{value:.1f}" for value in named.values()))
    return f"| {rows[0]} |\n|{rows[1]}|\n| {rows[2]} |"


def run(*arguments: str) -> str:
    """The output of a command of this repository. Raises CalledProcessError."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def into_card(**texts: str) -> None:
    path = WEIGHTS / "README.md"
    card = path.read_text(encoding="utf-8")
    for name, text in texts.items():
        card = filled(card, name, text)
    path.write_text(card, encoding="utf-8")


def sheet() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run("-m", "training.judging.sheets", "--output", folder)
        shutil.copy(Path(folder) / "looks.jpg", WEIGHTS / "sheet.jpg")
        for name in ("strengths.jpg", "steps.jpg", "clip.webp"):
            shutil.copy(Path(folder) / name, ROOT / "docs/pictures" / name)


def evaluation() -> None:
    run("-m", "training.judging", "--output", str(PICTURES))
    figures = json.loads(PICTURES.read_text())
    painted = frozenset(look.name for look in read_vocabulary(WEIGHTS).painted)
    into_card(evaluation=report.brief(figures, painted), psnr=psnr_table(figures["psnr"]))


def int8() -> None:
    into_card(int8=int8_line(json.loads(run("-m", "training.quantise", "--weights", str(WEIGHTS)).strip().splitlines()[-1])))


def int8_line(found: dict[str, Any]) -> str:
    """The result of `training.quantise` as a sentence."""
    return (
        f"int8 against float32, both OpenVINO at 512 × 512, {found['looks']} looks: {found['ratio']:.2f} times the speed, SSIM "
        f"{found['ssim_mean']:.3f} on average and {found['ssim_worst']:.3f} at worst, PSNR {found['psnr_mean_db']:.1f} dB; at "
        f"four steps SSIM {found['at_four']['ssim_mean']:.3f} on average and {found['at_four']['ssim_worst']:.3f} at worst."
    )


def thumbnails() -> None:
    run("-m", "benchmarks.thumbnails")


def benchmarks() -> None:
    for name in BENCHMARKS:
        run("app.py", "bench", name)


PARTS: dict[str, Callable[[], None]] = {
    "sheet": sheet, "evaluation": evaluation, "int8": int8, "thumbnails": thumbnails, "benchmarks": benchmarks,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=list(PARTS), metavar="NAME", help=", ".join(PARTS))
    for name in parser.parse_args().only:
        print(name, flush=True)
        PARTS[name]()


if __name__ == "__main__":
    main()
