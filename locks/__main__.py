"""`python -m locks` (or `make lock`): makes locks/*.txt from the requirements*.txt, with uv. Needs the package index.

A lock contains all packages of its requirements, pinned with SHA-256 hashes, for all platforms and Python versions. Present
versions are kept if they still fit. A lock contains neither torch nor the CUDA packages of its default Linux build: the right
build depends on the machine, and the hashes of a version differ by index (locks/install_torch.py). It contains no address of an
index.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS: dict[str, tuple[str, ...]] = {
    "run": ("requirements.txt",),
    "dev": ("requirements.txt", "requirements-dev.txt"),
    "gpu": ("requirements.txt", "requirements-gpu.txt"),
    "cluster": ("requirements.txt", "requirements-cluster.txt"),
}
"""Lock → its requirements files. Every lock contains all packages of "run" at the same versions."""

CUDA = ("cuda-bindings", "cuda-toolkit", "nvidia-cudnn-cu13", "nvidia-cusparselt-cu13", "nvidia-nccl-cu13", "nvidia-nvshmem-cu13")
"""CUDA packages that torch's default Linux build requires beside Triton; they require the other CUDA packages."""

PYTHON = "3.11"
OPTIONS = ("--universal", "--python-version", PYTHON, "--generate-hashes", "--no-header", "--no-annotate", "--quiet")


def excluded(lock: str) -> tuple[str, ...]:
    """Packages that a lock leaves out. Triton stays if a requirements file names it."""
    return CUDA if lock in ("dev", "gpu") else (*CUDA, "triton")


def inputs_digest(lock: str) -> str:
    """SHA-256 of all inputs of a lock: the pins without comments, the left-out packages, uv's options."""
    names = (*LOCKS["run"], *LOCKS[lock])
    pins = [line for name in names for line in pins_of((ROOT / name).read_text(encoding="utf-8"))]
    return hashlib.sha256("\n".join([*pins, *excluded(lock), *OPTIONS]).encode()).hexdigest()


def pins_of(text: str) -> list[str]:
    """The lines of a requirements file, without comments and empty ones."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def header(lock: str) -> str:
    made = f'# Made by "make lock" from {" and ".join(LOCKS[lock])}. Install torch first: python -m locks.install_torch\n'
    return f"{made}# inputs: {inputs_digest(lock)}\n"


def make(lock: str) -> None:
    """Write one lock. Raises subprocess.CalledProcessError if uv finds no solution or no index."""
    target, excludes = ROOT / "locks" / f"{lock}.txt", ROOT / "locks" / ".excludes"
    excludes.write_text("\n".join((*excluded(lock), "")), encoding="utf-8")
    command = [sys.executable, "-m", "uv", "pip", "compile", *LOCKS[lock], *OPTIONS, "--no-emit-package", "torch"]
    command += ["--excludes", str(excludes), "--output-file", str(target)]
    if lock != "run":
        command += ["--constraints", str(ROOT / "locks" / "run.txt")]
    try:
        subprocess.run(command, check=True, cwd=ROOT)
    finally:
        excludes.unlink()
    target.write_text(header(lock) + target.read_text(encoding="utf-8"), encoding="utf-8")


def main() -> int:
    for lock in LOCKS:
        try:
            make(lock)
        except subprocess.CalledProcessError as error:
            print(f"locks: {lock}: uv {importlib.metadata.version('uv')} failed with {error.returncode}", file=sys.stderr)
            return 1
        print(f"locks/{lock}.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
