"""The Triton kernels against their references, in Triton's interpreter on the CPU.

The interpreter is chosen when Triton is imported, which another test may have done: so this file runs itself in a process of its
own, with the tests that are named `check_` here.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).resolve().parents[2]


def test_the_kernels_compute_what_their_references_do() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", str(ROOT / "tests" / "kernels" / "interpreted.py")]
    command += ["-W", "ignore::RuntimeWarning"]  # NumPy, of exp() in lanes that a mask leaves out
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
