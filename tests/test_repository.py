"""What may be committed: large files have their folders, since a clone carries every version of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 2**20
ALLOWED = ("assets/pocket/", "assets/samples/", "docs/pictures/")
"""Weights, sheets and pictures are committed here, once per release."""
KNOWN = {"3724a926039f62ca6df42d0551dc98a019948669"}
"""Blobs that were there before this rule: training/perception.safetensors."""


def git(folder: Path, *arguments: str, text: str | None = None) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, input=text, capture_output=True, text=True, check=True, timeout=60
    ).stdout


def large(folder: Path) -> list[str]:
    """The files in the index of a repository that are larger than LARGEST, outside of ALLOWED."""
    entries = [line.split(maxsplit=3) for line in git(folder, "ls-files", "-s").splitlines()]
    blobs = {entry[1] for entry in entries}
    sizes = git(folder, "cat-file", "--batch-check=%(objectname) %(objectsize)", text="\n".join(blobs)).splitlines()
    over = {blob for blob, size in map(str.split, sizes) if size.isdecimal() and int(size) > LARGEST} - KNOWN
    return sorted(name for _, blob, _, name in entries if blob in over and not name.startswith(ALLOWED))


def test_no_large_file_outside_its_folders() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    assert large(ROOT) == [], f"commit files over {LARGEST} bytes in {', '.join(ALLOWED)} only"


def test_a_large_file_is_found(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    git(tmp_path, "init", "--quiet")
    for name, size in {
        "a.bin": LARGEST + 1,
        "b.bin": LARGEST,
        "docs/pictures/c.bin": LARGEST + 2,
        "docs/d e.bin": LARGEST + 3,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    git(tmp_path, "add", ".")
    assert large(tmp_path) == ["a.bin", "docs/d e.bin"]
