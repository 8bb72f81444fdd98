"""The client's pure modules in node's own test runner; the files' form."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipelines import PictureStyle, read_style, write_style
from studio.wire import protocol

HERE = Path(__file__).parent
CLIENT = HERE.parents[1] / "assets" / "client"
STYLE = PictureStyle(
    np.linspace(-1, 1, 7, dtype=np.float32), "0123456789ab", "rote Wellen é", b"\xff\xd8\x01", "a sea", "public domain", 60
)
FILES = sorted(path for path in CLIENT.rglob("*") if path.is_file())


def header_fixtures() -> dict[str, str]:
    """An answer packed by the server's code, and the frame that its parser accepts, for the client to read and make."""
    answer = protocol.Answer(
        frame_id=7,
        captured_at=1.25,
        settled=9,
        settings_version=3,
        verdict="cached",
        timings=protocol.AnswerTimings(*(float(number) for number in range(1, 11))),
        ssim=0.5,
        psnr=30.0,
        flicker=math.nan,
        format="jpeg",
        picture=b"\x01\x02\x03",
    )
    frame = protocol.pack_frame(7, 1.25, "webp", b"\x01\x02\x03")
    return {
        "RILL_ANSWER_HEX": bytes(protocol.pack_answer(answer)).hex(),
        "RILL_FRAME_HEX": frame.hex(),
        "RILL_MASK_HEX": protocol.pack_mask(258, b"\x09\x08").hex(),
        "RILL_PICTURE_HEX": protocol.pack_picture(258, "jpeg", b"\x09\x08").hex(),
        "RILL_PICTURE_B_HEX": protocol.pack_picture(258, "jpeg", b"\x09\x08", second=True).hex(),
        "RILL_REFERENCE_HEX": protocol.pack_reference(7, 1.25, "jpeg", b"\x01\x02\x03").hex(),
        "RILL_STYLE_HEX": write_style(STYLE).hex(),
    }


def test_modules_in_node() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    tests = sorted(str(path) for path in HERE.glob("*.test.mjs"))
    environment = os.environ | header_fixtures()
    result = subprocess.run([node, "--test", *tests], capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert "# skipped 0" in result.stdout, result.stdout[-2000:]


RENAME = """import { renamed } from "./assets/client/pure/stylefile.js";
const bytes = Uint8Array.from(Buffer.from(process.argv[1], "hex"));
console.log(Buffer.from(renamed(bytes, process.argv[2])).toString("hex"))"""


@pytest.mark.parametrize("name", ["red", "vagues d'été", '"quoted" \\ slash', "波 🌊"])
def test_a_style_that_the_page_has_renamed_is_whole_for_the_server(name: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    command = [node, "--input-type=module", "-e", RENAME, write_style(STYLE).hex(), name]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=HERE.parents[1])
    assert result.returncode == 0, result.stderr
    found = read_style(bytes.fromhex(result.stdout))
    assert (found.name, found.fitted, found.tile, found.licence) == (name, STYLE.fitted, STYLE.tile, STYLE.licence)
    assert np.array_equal(found.numbers, STYLE.numbers)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_client_files_are_short_and_name_no_other_host(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    hosts = set(re.findall(r"(?:https?|wss?)://([\w.-]+)", text))
    assert hosts <= {"www.w3.org", "localhost"}


NAMED = re.compile(r"""(?:from|import\(|new URL\(|sheet\()\s*"([^"]+)\"""")


def test_every_file_of_the_client_is_reached() -> None:
    """From studio.js by imports, workers and sheets; from the page's head the rest."""
    seen = {CLIENT / name for name in ("studio.js", "calm.js", "icon.svg", "studio.css", "controls.css", "package.json")}
    waiting = [CLIENT / "studio.js"]
    while waiting:
        path = waiting.pop()
        for name in NAMED.findall(path.read_text()):
            target = (path.parent / name).resolve() if name.startswith(".") else CLIENT / f"{name}.css"
            if target in FILES and target not in seen:
                seen.add(target)
                waiting.append(target)
    assert set(FILES) == seen


def test_every_selector_of_the_client_s_sheets_is_of_something_that_the_page_makes() -> None:
    made = "".join(path.read_text() for path in FILES if path.suffix == ".js")
    made += "".join(path.read_text() for path in (HERE.parents[1] / "studio" / "web" / "page").glob("*.py"))
    for sheet in (path for path in FILES if path.suffix == ".css"):
        for name in set(re.findall(r"\.(rill-[\w-]+)", re.sub(r"/\*.*?\*/", " ", sheet.read_text(), flags=re.DOTALL))):
            stem = re.sub(r"^rill-(part|host|row|layer)-.*", r"rill-\1-", name)
            assert stem in made, f"{sheet.name}: .{name}"
