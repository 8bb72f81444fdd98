"""How long commands take from nothing, against `python -c "import torch"` and `python -c "import gradio"` in the same rounds.

Every round runs each command once, in turn, so that a neighbour on the machine hits all of them. Ratios are round by round, of
seconds by the clock and of processor seconds; medians over rounds. Graphs are cached before the first round.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import clips
from pipelines import media
from studio.client import StudioClient

ROOT = Path(__file__).resolve().parents[1]
WATCHED = ("torch", "torch._dynamo", "openvino", "diffusers", "transformers", "tokenizers", "sympy", "scipy", "gradio", "pandas")
"""Modules whose import is reported."""

BASES = {"import torch": ("-c", "import torch"), "import gradio": ("-c", "import gradio")}
LISTENING, READY = "listening on ", " is ready"
IMPORTED = """
import runpy, sys
sys.argv = ["app.py", *sys.argv[1:]]
try:
    runpy.run_path("app.py", run_name="__main__")
except SystemExit:
    pass
print(*(sys.modules.keys() & set({watched!r})))
"""


def commands(picture: Path, target: Path) -> dict[str, tuple[str, ...]]:
    """The measured commands: arguments of the interpreter."""
    return {
        "help": ("app.py", "--help"),
        "models": ("app.py", "models"),
        "argument error": ("app.py", "serve", "--port", "70000"),
        "render": ("app.py", "render", str(picture), str(target)),
    }


def timed(arguments: Sequence[str]) -> tuple[float, float]:
    """(seconds, processor seconds) of one process."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 2):
        raise RuntimeError(f"{' '.join(arguments)} failed with {child.returncode}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def served() -> dict[str, tuple[float, float]]:
    """`app.py serve` until its page answers, and until a client has its first picture: (seconds, processor seconds)."""
    start = time.perf_counter()
    command = [sys.executable, "app.py", "serve", "--port", "0"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert child.stdout is not None
        url = ""
        while LISTENING not in (line := child.stdout.readline()):
            if not line:
                raise RuntimeError("app.py serve ended before it listened")
        url = line.partition(LISTENING)[2].split()[0]
        _get(url)
        page = time.perf_counter() - start, _processor_s(child.pid)
        while READY not in (line := child.stdout.readline()):
            if not line:
                raise RuntimeError("app.py serve ended before its model was ready")
        asyncio.run(_first_picture(url))
        return {"page": page, "first picture": (time.perf_counter() - start, _processor_s(child.pid))}
    finally:
        child.terminate()
        child.wait(30)


def _get(url: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=120) as answer:
        if answer.status != 200:
            raise RuntimeError(f"the page answers with {answer.status}")
        answer.read()


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _first_picture(url: str) -> None:
    async with StudioClient(url) as client:
        width, height = client.size
        await client.frame(np.full((height, width, 3), 128, np.uint8))
        await client.shown()


def imported(arguments: Sequence[str]) -> list[str]:
    """Which of WATCHED a command of app.py has in memory at its end."""
    code = IMPORTED.format(watched=WATCHED)
    command = [sys.executable, "-c", code, *arguments[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return sorted(done.stdout.splitlines()[-1].split()) if done.stdout else []


def summary(rounds: Sequence[dict[str, tuple[float, float]]]) -> dict[str, Any]:
    """Medians over rounds, by command: seconds, processor seconds, and both against the base of the command."""
    shown: dict[str, Any] = {}
    for name in rounds[0]:
        base = "import gradio" if name in ("page", "first picture") else "import torch"
        wall, cpu = ([one[name][place] for one in rounds] for place in (0, 1))
        shown[name] = {
            "s": round(median(wall), 2),
            "cpu_s": round(median(cpu), 2),
            f"of {base}": round(median(one[name][0] / one[base][0] for one in rounds), 2),
            f"cpu of {base}": round(median(one[name][1] / one[base][1] for one in rounds), 2),
        }
    return shown


def start_up(repeats: int) -> dict[str, Any]:
    """Every command `repeats` times in turn; the modules that each imports."""
    with tempfile.TemporaryDirectory() as folder:
        picture, target = Path(folder) / "in.png", Path(folder) / "out.png"
        writer = media.open_writer(picture, 1, 512, 512)
        writer.write(clips.clip("handheld", 512, 512, frames=1)[0])
        writer.close()
        measured = commands(picture, target)
        timed(measured["render"])  # caches the graphs
        served()
        rounds = []
        for _ in range(repeats):
            rounds.append({name: timed(arguments) for name, arguments in {**BASES, **measured}.items()} | served())
        modules = {name: imported(arguments) for name, arguments in measured.items()}
    return {"rounds": repeats, **summary(rounds), "imported": modules}
