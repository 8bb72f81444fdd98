"""The environment of the peers that are no dependency of Rill, and their process.

`ensure` makes a virtual environment: torch as locks/install_torch.py chooses it, then the pins of requirements-peers.txt. An
existing one is used as it is. `Peer` runs benchmarks/openvino_peer.py in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipelines import RillError

ROOT = Path(__file__).resolve().parents[1]
PINS = ROOT / "requirements-peers.txt"


class PeerError(RillError):
    """An environment that cannot be made, or a peer that fails."""


def python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def ensure(folder: Path) -> None:
    """Make the environment in `folder` unless there is one. PeerError if that fails, or if the folder has other
    content."""
    python = python_of(folder)
    if python.exists():
        return
    if folder.exists() and any(folder.iterdir()):
        raise PeerError(f"{folder} is neither empty nor a virtual environment")
    print(f"making the environment of the peers in {folder}", file=sys.stderr, flush=True)
    venv.create(folder, with_pip=True)
    for command in (["-m", "locks.install_torch"], ["-m", "pip", "install", "--no-deps", "-r", str(PINS)]):
        done = subprocess.run([str(python.absolute()), *command], cwd=ROOT, stdout=sys.stderr, check=False)
        if done.returncode:
            raise PeerError(f"`{' '.join(command)}` failed with {done.returncode} in {folder}; remove the folder to try again")


class Peer:
    """A process that answers requests, one JSON object in a line each way. Its first line has "ready". Raises PeerError when it
    ends early."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.versions: dict[str, str] = self._reply()["ready"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def _close(self) -> int:
        """Its status, after its input has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        status = self._process.wait()
        self._process.stdout.close()
        return status

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # then there is no reply either
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"the peers' process ended with {self._close()}; what it printed is above")
        return dict(json.loads(line))
