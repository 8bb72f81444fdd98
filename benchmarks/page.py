"""Measures the page itself: delay of a control, time until it is usable, charts, recording, memory.

Compared variants take turns in short windows on one running stream. Processor time is that of Chromium's processes by kind;
memory is their proportional set size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from statistics import median
from typing import Any

import psutil

TURNS = (False, True, True, False)  # a drift of the machine affects both variants equally
SHOWN = "const { generated, cached } = rill.stats.totals; return [generated + cached, performance.now()]"
HIDE = "Object.defineProperty(document, 'hidden', hidden)"
USABLE = """const look = setInterval(() => {
  const strength = document.querySelector('#rill-strength input');
  if (!strength || strength.disabled || !document.querySelector('.rill-words')?.textContent) return;
  clearInterval(look);
  window.usableAfter = performance.now();
}, 5);"""
FOLLOW = """const { on } = rill.connection;
const { answer: answered, settings: acknowledged } = on;
let move = null;
window.moves = [];
on.settings = (message) => {
  move = { version: message.version, frames: 0, at: performance.now() };
  return acknowledged(message);
};
on.answer = (answer, bytes) => {
  if (move) {
    move.frames += 1;
    if (answer.settingsVersion >= move.version) {
      window.moves.push([move.frames, performance.now() - move.at]);
      move = null;
    }
  }
  return answered(answer, bytes);
};"""


def slider(page: Any, moves: int = 30) -> dict[str, Any]:
    """Delay of a slider that is moved by keys.

    The server acknowledges a move at its arrival. The answers after that are counted, up to and including the first one with the
    move.
    """
    page.js(FOLLOW)
    handle = page.driver.find_element("css selector", "#rill-strength input[type=range]")
    for index in range(moves):
        handle.send_keys("\ue014" if index % 2 == 0 else "\ue012")  # arrow right, arrow left
        page.wait("the move in effect", lambda done=index + 1: page.js("return moves.length") >= done)
        time.sleep(0.2)
    found = page.js("return moves")
    return {
        "moves": len(found),
        "frames_worst": max(frames for frames, _ in found),
        "frames_mean": round(sum(frames for frames, _ in found) / len(found), 2),
        "ms_p50": round(median(ms for _, ms in found), 1),
        "ms_worst": round(max(ms for _, ms in found), 1),
    }


def ready(page: Any, visits: int = 5) -> dict[str, Any]:
    """Milliseconds from navigation to usable controls, with an empty browser cache and with the cache of the visit before."""
    added = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": USABLE})
    found: dict[str, list[float]] = {"first_visit": [], "again": []}
    for _ in range(visits):
        for kind, times in found.items():
            page.driver.get("about:blank")
            if kind == "first_visit":
                page.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
            page.open()
            times.append(page.wait("usable controls", lambda: page.js("return window.usableAfter ?? null")))
    page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    return {f"{kind}_ms": round(median(times), 0) for kind, times in found.items()} | {
        f"{kind}_each": [round(one) for one in times] for kind, times in found.items()
    }


def charts(page: Any, root: psutil.Process, window_s: float = 10.0, rounds: int = 4) -> dict[str, Any]:
    """Processor time of the browser with and without charts and figures, which pause while the document is hidden."""
    shares: dict[bool, list[float]] = {False: [], True: []}
    for drawn in TURNS * rounds:
        page.js(
            "const [rest] = arguments; Object.defineProperty(document, 'hidden', { configurable: true, get: () => rest })",
            not drawn,
        )
        time.sleep(0.5)
        used, wall = processor_seconds(root, lambda: time.sleep(window_s))
        shares[drawn].append(100 * sum(used.values()) / wall)
    page.js("delete document.hidden")
    costs = [with_them - without for without, with_them in zip(shares[False], shares[True], strict=True)]
    return {"percent_of_a_core": round(median(costs), 2), "each": [round(cost, 2) for cost in costs]}


def recording(page: Any, window_s: float = 10.0, rounds: int = 2) -> dict[str, Any]:
    """The ratio of shown pictures per second with and without a recording of the output."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    for on in TURNS * rounds:
        if on and not page.js("return rill.exchange(({ recorder }) => recorder.start(rill.view.canvas))"):
            return {"error": "this browser cannot record a canvas"}
        time.sleep(1)
        before = page.js(SHOWN)
        time.sleep(window_s)
        after = page.js(SHOWN)
        rates[on].append(1000 * (after[0] - before[0]) / (after[1] - before[1]))
        if on:
            page.driver.execute_async_script(
                "const done = arguments[0]; rill.exchange(({ recorder }) => recorder.stop()).then((video) => done(video.size))"
            )
    without, with_it = median(rates[False]), median(rates[True])
    return {
        "fps_without": round(without, 2),
        "fps_with": round(with_it, 2),
        "cost_percent": round(100 * (1 - with_it / without), 1),
    }


def memory(
    roots: dict[str, psutil.Process], minutes: float, every_s: float = 5.0, rest: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """MB of each process tree while the stream runs: the last minute against the second one. minutes: 3 or more."""
    samples: dict[str, list[float]] = {name: [] for name in roots}
    per_minute = round(60 / every_s)
    for _ in range(round(minutes * per_minute)):
        rest(every_s)
        for name, root in roots.items():
            samples[name].append(sum(megabytes(process) for process in tree(root)))
    return {"minutes": minutes} | {name: growth(values, per_minute) for name, values in samples.items()}


def growth(values: list[float], per_minute: int) -> dict[str, Any]:
    """Medians of the second and of the last minute, and their difference in percent."""
    early, late = median(values[per_minute : 2 * per_minute]), median(values[-per_minute:])
    minutes = [values[start : start + per_minute] for start in range(0, len(values), per_minute)]
    return {
        "after_first_minute_mb": round(early, 1),
        "at_the_end_mb": round(late, 1),
        "growth_percent": round(100 * (late / early - 1), 2),
        "each_minute_mb": [round(median(minute), 1) for minute in minutes],
    }


def tree(root: psutil.Process) -> Iterator[psutil.Process]:
    yield root
    yield from root.children(recursive=True)


def megabytes(process: psutil.Process) -> float:
    """Proportional set size; 0 for a process that is gone."""
    with suppress(psutil.NoSuchProcess):
        return float(process.memory_full_info().pss) / 2**20
    return 0.0


def processor_seconds(root: psutil.Process, work: Callable[[], object]) -> tuple[dict[str, float], float]:
    """The cost of `work` in the process tree: seconds of processor time by kind of process, and elapsed seconds."""
    before, start = spent(root), time.perf_counter()
    work()
    wall = time.perf_counter() - start
    used: dict[str, float] = {}
    for (pid, kind), seconds in spent(root).items():
        used[kind] = used.get(kind, 0.0) + seconds - before.get((pid, kind), 0.0)
    return used, wall


def spent(root: psutil.Process) -> dict[tuple[int, str], float]:
    """Seconds of processor time of each process of the tree, by its id and kind."""
    found = {}
    for process in tree(root):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            found[process.pid, kind_of(process.cmdline(), process.name())] = times.user + times.system
    return found


def kind_of(command: list[str], name: str) -> str:
    """ "renderer", "gpu-process", ... for Chromium's children, else the name of the program."""
    words = " ".join(command).split()  # Chromium's children have their arguments in one string
    kinds = [word.removeprefix("--type=") for word in words if word.startswith("--type=")]
    return kinds[0] if kinds else name
