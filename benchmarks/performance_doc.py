"""Writes docs/performance.md from the files of benchmarks/results: `python -m benchmarks.performance_doc`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.machine import RESULTS

TARGET = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
MACHINE = "xeon"
"""The folder of benchmarks/results with the files of this page."""
HEAD = """# Performance

`python -m benchmarks.performance_doc` generates this page from `benchmarks/results`. Every table names its machine, its day and
the command that repeats the measurement. Absolute rates belong to that machine; ratios were measured in one run. The machines
are shared, so a repeated ratio can differ by a tenth.

Terms: *fps* is pictures per second; *denoise* is the time of the UNet. SSIM compares a picture with the unaccelerated picture of
the same frame, over the frames that the technique changed (mean, and 5th percentile).
"""

Result = dict[str, Any]


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *(list(map(_text, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: object) -> str:
    if value is None:
        return ""
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 100
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )


def engine(result: Result) -> str:
    lanes = result["lanes"].items()
    rows = ([name, lane["dtype"], lane["generated_fps_median"], *lane["stage_ms"].values()] for name, lane in lanes)
    lines = table(("backend", "computed in", "fps", "encode ms", "denoise ms", "decode ms"), rows)
    render = result["render"]
    return (
        f"One step at {result['size']} × {result['size']}.\n\n{lines}\n\n"
        f"`app.py render` writes its first picture after {render['first_frame_s']:.1f} s (graphs cached); peak memory "
        f"{render['peak_rss_mib']:.0f} MiB."
    )


def live(result: Result) -> str:
    against, still = result["against_render"], result["gate_on_still"]
    rows = (
        ("Python client against `app.py render`, rate", against["ratio_client_to_render"]),
        ("milliseconds a frame outside the model", against["outside_model_ms"]),
        (
            "delay from sending to decoded answer, p50 / p95 ms",
            f"{against['latency_p50_ms']:.0f} / {against['latency_p95_ms']:.0f}",
        ),
        ("gate on a still scene: times less processor time for a shown frame", still["times_less_cpu"]),
    )
    return table(("figure", "value"), rows)


def scaling(result: Result) -> str:
    steps = [
        (size, count, each["sequential_fps"], each["batch_fps"], each["batch_ratio"])
        for size, found in result["sizes"].items()
        for count, each in found["steps"].items()
    ]
    sessions = [
        (size, count, each["frames_per_s"], each["ratio_to_first"], each["slowest_share"])
        for size, found in result["sizes"].items()
        for count, each in found["sessions"].items()
    ]
    one = table(("size", "steps", "sequential fps", "stream batch fps", "ratio"), steps)
    other = table(("size", "sessions in a step", "fps together", "ratio to one", "slowest share"), sessions)
    return f"{one}\n\n{other}"


def sessions(result: Result) -> str:
    rows = [
        (
            count,
            each["frames_per_s"],
            each["ratio_to_one"],
            each["slowest_share_of_mean"],
            each["latency_p50_ms"],
            each["latency_p95_ms"],
        )
        for count, each in result["socket"].items()
        if isinstance(each, dict) and "frames_per_s" in each
    ]
    return table(("clients", "fps together", "ratio to one", "slowest share of the mean", "p50 ms", "p95 ms"), rows)


def peers(result: Result) -> str:
    rows = (
        (name, lane["generated_fps"], lane["ms_per_frame"], lane["times_faster_than_it"], lane["ssim_to_diffusers_float32"])
        for name, lane in result["lanes"].items()
    )
    head = ("pipeline", "fps", "ms a frame", "Rill is faster by", "SSIM to diffusers float32")
    return f"The same weights at the same timestep, {result['size']} × {result['size']}.\n\n{table(head, rows)}"


def ablation(result: Result) -> str:
    head = ("techniques", "frames, ratio", "denoise, ratio", "shown frames for processor time, ratio", "SSIM", "5th percentile")
    parts = []
    for group in result["groups"].values():
        for kind in ("moving", "paused"):
            rows = [
                (
                    name,
                    each["model_fps_ratio"],
                    each["denoise_ratio"],
                    each["shown_per_cpu_s_ratio"],
                    each["ssim_mean"],
                    each["ssim_p05"],
                )
                for name, each in (group.get(kind) or {}).items()
            ]
            if rows:
                parts.append(
                    f"**{group['title']}**, {'moving clips' if kind == 'moving' else 'a clip with pauses'}\n\n{table(head, rows)}"
                )
    return "\n\n".join(parts)


SECTIONS = {
    "engine": ("Backends", engine),
    "live": ("Over the socket", live),
    "sessions": ("Several clients", sessions),
    "scaling": ("Steps, sizes, sessions", scaling),
    "peers": ("Beside other pipelines", peers),
    "ablation": ("Gain and loss of each acceleration", ablation),
}


def _machine(result: Result) -> str:
    machine = result["machine"]
    amx = "with AMX" if machine["amx"] else "without AMX"
    return f"{machine['processor']}, {machine['cores']} cores, {amx}; {result['measured_at'][:10]}"


def _sections(folder: str) -> Iterator[str]:
    for name, (title, write) in SECTIONS.items():
        path = RESULTS / folder / f"{name}.json"
        if path.is_file():
            result = json.loads(path.read_text(encoding="utf-8"))
            yield f"## {title}\n\n{_machine(result)}; `app.py bench {name}`.\n\n{write(result)}"


def document() -> str:
    parts = [HEAD, *_sections(MACHINE)]
    parts.append(f"All figures of these runs are in `benchmarks/results/{MACHINE}`.")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
    print(TARGET)
