"""Installs torch at the version of requirements.txt, in the build that this machine can use. Standard library alone.

    python -m locks.install_torch [--build auto|cpu|default]

PyPI's build for Linux brings CUDA, several gigabytes. So on Linux without an NVIDIA GPU PyTorch's own CPU index is tried first,
without waiting for it long; the default index is the fallback. torch is installed alone: what it needs is in locks/run.txt, but
for the CUDA packages, which a build that names them gets at the versions that it pins itself.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SHORT = ("--timeout", "5", "--retries", "0")
FELL_BACK = "torch: PyTorch's CPU index cannot be reached; taking the default build, which on Linux may bring CUDA"
DRIVERS = (Path("/proc/driver/nvidia/version"), Path("/usr/lib/wsl/lib/nvidia-smi"))

Pip = Callable[[Sequence[str]], bool]
"""Runs `pip install` with these arguments; whether it worked."""


def wanted() -> str:
    """ "torch==2.13.0" """
    text = (Path(__file__).resolve().parents[1] / "requirements.txt").read_text(encoding="utf-8")
    found = re.search(r"^torch==\S+", text, re.MULTILINE)
    if found is None:
        raise SystemExit("locks: requirements.txt pins no torch")
    return found[0]


def has_nvidia() -> bool:
    """Whether a driver for an NVIDIA GPU is here."""
    return shutil.which("nvidia-smi") is not None or any(path.exists() for path in DRIVERS)


def needs_cuda() -> bool:
    """Whether the torch that is installed names packages of CUDA. Asks a new process, which sees what pip has just installed."""
    code = "import importlib.metadata as m; print(m.requires('torch') or [])"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return "nvidia-" in said or "cuda-" in said


def is_installed(pin: str) -> bool:
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return False
    return version.partition("+")[0] == pin.partition("==")[2]


def install(pip: Pip, pin: str, cpu_first: bool, cuda: Callable[[], bool] = needs_cuda) -> bool:
    """cpu_first: try the CPU index before the default one. cuda: whether what was installed names packages of CUDA."""
    if cpu_first:
        if pip(("--quiet", "--no-deps", *SHORT, "--index-url", CPU_INDEX, pin)):
            return True
        print(FELL_BACK, flush=True)
    return pip(("--no-deps", pin)) and (not cuda() or pip((pin,)))


def run_pip(arguments: Sequence[str]) -> bool:
    quick = CPU_INDEX in arguments  # its errors would be the reader's first lines, and the fallback's line says what is up
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, stderr=subprocess.DEVNULL if quick else None, check=False).returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m locks.install_torch", description=__doc__)
    parser.add_argument("--build", choices=("auto", "cpu", "default"), default="auto")
    build = parser.parse_args(arguments).build
    pin = wanted()
    if build == "auto" and is_installed(pin):
        return 0
    cpu_first = build == "cpu" or (build == "auto" and sys.platform == "linux" and not has_nvidia())
    return 0 if install(run_pip, pin, cpu_first) else 1


if __name__ == "__main__":
    sys.exit(main())
