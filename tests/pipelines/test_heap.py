"""What was freed goes back to the system."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import heap


def resident() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(heap._library() is None, reason="another C library")
def test_freed_blocks_below_a_last_one_go_back() -> None:
    before = resident()
    blocks = [bytearray(100_000) for _ in range(2000)]  # below the size that is mapped for itself
    last = bytearray(100_000)
    held = resident()
    assert held > before + 150_000_000
    del blocks
    heap.trim()
    assert resident() < held - 150_000_000 and len(last) == 100_000


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_library", lambda: None)
    heap.trim()
