"""What was freed goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipelines.graphs import malloc_trim

# In a process of its own: where tests ran before, free room of theirs would take the blocks, and nothing would grow.
MEASURE = """
from pathlib import Path
from pipelines.graphs import malloc_trim

def resident():
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

before = resident()
blocks = [bytearray(100_000) for _ in range(2000)]  # below the size that is mapped for itself
last = bytearray(100_000)
held = resident()
del blocks
kept = held - resident()
malloc_trim.trim()
print(held - before, kept, held - resident(), len(last))
"""


@pytest.mark.skipif(malloc_trim._library() is None, reason="another C library")
def test_freed_blocks_below_a_last_one_go_back() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, timeout=120)
    taken, returned_before, returned, last = map(int, done.stdout.split())
    assert taken > 150_000_000 and last == 100_000
    assert returned_before < 10_000_000, "the C library alone gives nothing back"
    assert returned > 150_000_000


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(malloc_trim, "_library", lambda: None)
    malloc_trim.trim()
