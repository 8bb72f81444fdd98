"""Installs torch at the version of requirements.txt, in the right build for this machine. Uses the standard library only.

    python -m locks.install_torch [--build auto|cpu|default]

PyPI's Linux build installs CUDA too, several gigabytes. So on Linux without an NVIDIA GPU PyTorch's own CPU index is tried first,
with a short timeout; the default index is the fallback. torch is installed alone: its requirements are in locks/run.txt. The
CUDA packages are an exception: a build that requires them gets the versions that it pins.
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
FELL_BACK = "torch: PyTorch's CPU index cannot be reached; using the default build, which on Linux may include CUDA"
DRIVERS = (Path("/proc/driver/nvidia/version"), Path("/usr/lib/wsl/lib/nvidia-smi"))

Pip = Callable[[Sequence[str]], bool]
"""Runs `pip install` with these arguments; returns whether it succeeded."""


def wanted() -> str:
    """ "torch==2.13.0" """
    text = (Path(__file__).resolve().parents[1] / "requirements.txt").read_text(encoding="utf-8")
    found = re.search(r"^torch==\S+", text, re.MULTILINE)
    if found is None:
        raise SystemExit("locks: requirements.txt does not pin torch")
    return found[0]


def has_nvidia() -> bool:
    """Whether this machine has a driver for an NVIDIA GPU."""
    return shutil.which("nvidia-smi") is not None or any(path.exists() for path in DRIVERS)


def needs_cuda() -> bool:
    """Whether the installed torch requires CUDA packages. Checks in a new process, because pip has just installed it."""
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
    """Install torch; returns whether it succeeded. cpu_first: try the CPU index first. cuda: whether it requires CUDA
    packages."""
    if cpu_first:
        if pip(("--quiet", "--no-deps", *SHORT, "--index-url", CPU_INDEX, pin)):
            return True
        print(FELL_BACK, flush=True)
    return pip(("--no-deps", pin)) and (not cuda() or pip((pin,)))


def run_pip(arguments: Sequence[str]) -> bool:
    quick = CPU_INDEX in arguments  # no errors of this attempt: the line about the fallback is enough
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
