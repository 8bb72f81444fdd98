"""The command line as its user meets it: exit codes, the closing JSON line, no traceback for a user's mistake."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from app import main
from benchmarks import clips
from pipelines import media
from tests.miniature import save_family, save_lora

ROOT = Path(__file__).resolve().parents[1]
Command = Callable[..., subprocess.CompletedProcess[str]]
KEYS = [
    *("frames", "generated", "cached", "skipped", "dropped", "wall_s", "generated_fps", "output_fps"),
    *("stage_ms", "model", "backend", "size", "seed", "sound", "damaged", "notes", "understood", "unknown", "cut"),
]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "in.mp4"
    clip = clips.clip("handheld", 256, 256, frames=16)
    writer = media.open_writer(path, clip.fps, 256, 256)
    for picture in clip:
        writer.write(picture)
    writer.close()
    return path


def app(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which imports for seconds wherever a model is read: for one test of each kind."""
    command = [sys.executable, str(ROOT / "app.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=150, check=False)


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Command:
    """As `app`, in this process; an exception that would end the command with a traceback fails the test."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        given = list(map(str, arguments))
        capsys.readouterr()
        try:
            code = main(given)
        except SystemExit as end:  # argparse
            code = int(end.code or 0)
        return subprocess.CompletedProcess(given, code, *capsys.readouterr())

    return run


def test_render_a_clip_through_the_shipped_model(film: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    done = app(
        "render",
        film,
        target,
        "--prompt",
        "pencil sketch",
        "--size",
        "256",
        "--steps",
        "2",
        "--seed",
        "7",
        "--set",
        "gate.enabled=false",
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert list(result) == KEYS
    assert (result["frames"], result["generated"], result["dropped"]) == (16, 16, 0)
    assert (result["model"], result["size"], result["seed"]) == ("pocket", "256x256", 7)
    assert result["generated_fps"] == pytest.approx(result["generated"] / result["wall_s"], rel=0.01)
    assert set(result["stage_ms"]) == {"encode", "denoise", "decode"}
    source, out = list(media.read(film, 256, 256)), list(media.read(target, 256, 256))
    assert len(out) == 16
    assert np.abs(out[5].astype(int) - source[5]).mean() > 8  # transformed
    assert np.abs(out[5].astype(int) - out[15]).mean() > 1  # and moving


def test_render_a_picture_with_every_frame_of_a_gated_clip_answered(
    mini_model: Path, film: Path, tmp_path: Path, here: Command
) -> None:
    picture = tmp_path / "still.png"
    common = ("--model", mini_model, "--size", "128", "--backend", "eager", "--dtype", "float32")
    assert here("render", film, picture, *common).returncode == 0
    again = here("render", picture, tmp_path / "again.png", *common, "--steps", "4")
    assert json.loads(again.stdout.splitlines()[-1])["generated"] == 1
    still = tmp_path / "still.mp4"
    writer = media.open_writer(still, 25, 128, 128)
    for _ in range(24):
        writer.write(media.read_picture(picture, 128, 128))
    writer.close()
    target = tmp_path / "gated.mp4"
    gated = here("render", still, target, *common, "--set", "gate.enabled=true", "--set", "gate.max_skip=5", "--steps", "3")
    result = json.loads(gated.stdout.splitlines()[-1])
    assert result["skipped"] > 0 and result["generated"] + result["skipped"] == 24
    assert len(list(media.read(target, 128, 128))) == 24


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (("render", "absent.mp4", "out.mp4"), 1, "absent.mp4: no such file"),
        (("render", "LICENSE", "out.mp4", "--model", "{mini}", "--size", "128", "--backend", "eager"), 1, "LICENSE: is text"),
        (("render", "LICENSE", "out.xyz"), 1, "must end in one of .mp4"),
        (("render", "LICENSE", "LICENSE"), 1, "must end in"),
        (("render", "LICENSE", "out.mp4", "--model", "/nowhere"), 1, "no such model folder"),
        (("render", "LICENSE", "out.mp4", "--size", "big"), 2, "size"),
        (("render", "LICENSE", "out.mp4", "--size", "500"), 2, "multiple of 64"),
        (("render", "LICENSE", "out.mp4", "--strength", "7"), 2, "strength"),
        (("render", "LICENSE", "out.mp4", "--strength", "much"), 2, "strength"),
        (("render", "LICENSE", "out.mp4", "--set", "colour=red"), 2, "colour: unknown setting"),
        (("render", "LICENSE", "out.mp4", "--set", "steps"), 2, "KEY=VALUE"),
        (("render", "LICENSE", "out.mp4", "--backend", "magic"), 2, "magic"),
        (("render",), 2, "required"),
        (("dance",), 2, "dance"),
    ],
)
def test_mistakes_get_a_sentence_and_an_exit_code(
    mini_model: Path,
    tmp_path: Path,
    here: Command,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(ROOT)
    filled = [str(argument).replace("{mini}", str(mini_model)) for argument in arguments]
    filled = [str(tmp_path / item) if item.startswith("out.") else item for item in filled]
    done = here(*filled)
    assert done.returncode == code, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out.*"))


@pytest.mark.timeout(600)
def test_render_with_a_lora(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_family(tmp_path / "model", "sd15")
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    lora = save_lora(tmp_path / "ink.safetensors", {layer: (torch.randn(2, 32), torch.randn(32, 2))})
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(tmp_path / "in.png")
    common = ["--model", model, "--size", 128, "--backend", "eager", "--dtype", "float32", "--strength", 0.7]

    def render(name: str, *arguments: object) -> int:
        return main([str(item) for item in ("render", tmp_path / "in.png", tmp_path / f"{name}.png", *arguments)])

    shown = {}
    for name, extra in {"plain": [], "off": ["--lora", f"{lora}:0"], "on": ["--lora", f"{lora}:0.9"]}.items():
        assert render(name, *common, *extra, "--record", tmp_path / f"{name}.jsonl") == 0
        shown[name] = media.read_picture(tmp_path / f"{name}.png", 128, 128).astype(int)
    assert np.array_equal(shown["plain"], shown["off"]) and np.abs(shown["plain"] - shown["on"]).max() > 2
    assert render("again", "--replay", tmp_path / "on.jsonl") == 0, "the record holds the LoRA"
    capsys.readouterr()
    assert render("x", *common, "--lora", tmp_path / "absent.safetensors") == 1
    assert "absent.safetensors" in capsys.readouterr().err


def test_models_lists_what_is_present(here: Command) -> None:
    done = app("models", "--json")
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert [entry["state"] for entry in entries if entry["name"] == "pocket"] == ["present"]
    assert "pocket" in here("models").stdout


def test_models_lists_the_looks_one_per_line(here: Command) -> None:
    lines = here("models", "--looks").stdout.splitlines()
    looks = [json.loads(line) for line in here("models", "--looks", "--json").stdout.splitlines()]
    assert len(lines) == len(looks) > 10
    assert {"oil", "pencil", "neon"} <= {look["name"] for look in looks} and {look["model"] for look in looks} == {"pocket"}
    assert all(look["name"] in line and look["prompt"] in line for look, line in zip(looks, lines, strict=True))


def test_a_mistake_in_a_process_of_its_own_is_a_sentence_and_an_exit_code() -> None:
    done = app("render", "absent.mp4", "out.mp4")
    assert (done.returncode, done.stdout) == (1, "") and "absent.mp4: no such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_models_check_describes_a_folder(mini_model: Path, tmp_path: Path, here: Command) -> None:
    done = here("models", "--check", mini_model)
    assert done.returncode == 0 and "would load" in done.stdout and "epsilon" in done.stdout
    refused = here("models", "--check", tmp_path / "nowhere", "--json")
    report = json.loads(refused.stdout)
    assert refused.returncode == 1 and not report["loads"] and "no such model folder" in report["problem"]
    assert "Traceback" not in refused.stderr
