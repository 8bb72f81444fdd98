"""Which modules a command imports, each in a process of its own: a command does not wait for a library that it does not use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import miniature

ROOT = Path(__file__).resolve().parents[1]
MODEL = {"torch", "openvino", "diffusers", "transformers", "tokenizers", "sympy", "scipy", "nncf"}
WEB = {"gradio", "fastapi", "uvicorn", "pandas"}
MEDIA = {"cv2", "av", "PIL"}
SHOWN = """
import runpy, sys
sys.argv = ["app.py", *sys.argv[1:]]
try:
    runpy.run_path("app.py", run_name="__main__")
except SystemExit as end:
    print("ended with", end.code or 0, file=sys.stderr)
print("imported", *sorted(name for name in sys.modules if "." not in name or name == "torch._dynamo"), file=sys.stderr)
"""


def imported(*arguments: object) -> tuple[int, set[str]]:
    """(exit code, top-level modules in memory at the end) of an app.py command."""
    command = [sys.executable, "-c", SHOWN, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=True)
    lines = done.stderr.splitlines()
    codes = [int(line.split()[-1]) for line in lines if line.startswith("ended with")]
    return codes[-1] if codes else 0, set(lines[-1].split()[1:])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("serve", "--help"), 0),
        (("render", "--help"), 0),
        (("models",), 0),
        (("models", "--json"), 0),
        (("models", "--looks"), 0),
        (("dance",), 2),
        (("serve", "--port", "70000"), 2),
        (("serve", "--size", "500"), 2),
        (("serve", "--set", "strength=7"), 2),
        (("serve", "--blocked-words", "/no/such/file"), 2),
    ],
)
def test_help_lists_and_wrong_arguments_import_neither_model_nor_web_nor_media(arguments: tuple[str, ...], code: int) -> None:
    found, modules = imported(*arguments)
    assert found == code and modules & (MODEL | WEB | MEDIA) == set()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("render", "absent.png", "out.png"), 1),
        (("render", "LICENSE", "out.xyz"), 1),
        (("render", "LICENSE", "LICENSE.png", "--size", "500"), 2),
        (("render", "LICENSE", "LICENSE.png", "--strength", "7"), 2),
    ],
)
def test_wrong_arguments_of_render_import_no_model(arguments: tuple[str, ...], code: int) -> None:
    found, modules = imported(*arguments)
    assert found == code and modules & (MODEL | WEB) == set()


def test_the_page_is_served_without_the_model() -> None:
    code = f"import sys, studio.cli.run_server, studio.web.server, studio.web.page; print(*({MODEL} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=150)
    assert done.stdout.split() == []


@pytest.mark.long
def test_prompts_of_the_shipped_model_need_neither_diffusers_nor_transformers() -> None:
    """Styles name the painter that they are for, whose network diffusers' classes build."""
    code = (
        "import sys; from pipelines import ModelParts, describe; parts = ModelParts(describe('pocket')); "
        "parts.read_prompt('oil painting, van gogh'); parts.styles; print(*({'diffusers', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=150, check=True)
    assert done.stdout.split() == []


def test_a_picture_from_graphs_on_disk_needs_neither_diffusers_nor_transformers(tmp_path: Path) -> None:
    """A prompt that the first run has not seen, of one chunk; the cache is a folder of this test."""
    model, picture = miniature.save_miniature(tmp_path / "mini", tokens=miniature.ONE_CHUNK), tmp_path / "in.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(picture)
    common = ["--model", model, "--size", 128, "--backend", "openvino", "--dtype", "float32"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RILL_CACHE", str(tmp_path / "cache"))
        for prompt, heavy in (("ink", {"diffusers", "transformers"}), ("a red house", set())):
            code, modules = imported("render", picture, tmp_path / "out.png", *common, "--prompt", prompt)
            assert code == 0
            assert modules & {"diffusers", "transformers", "sympy", "scipy", "torch._dynamo", "nncf", "pandas"} >= heavy
            if not heavy:
                assert modules & (MODEL | WEB) == {"torch", "openvino", "tokenizers"} and "torch._dynamo" not in modules
