"""The client's pure modules in node's own test runner, as they are written and as they are served; the files' form."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from studio.web.minify import lean
from studio.wire import protocol

HERE = Path(__file__).parent
CLIENT = HERE.parents[1] / "assets" / "client"
FILES = sorted(path for path in CLIENT.rglob("*") if path.is_file())


def header_fixtures() -> dict[str, str]:
    """An answer packed by the server's code, and the frame that its parser accepts, for the client to read and make."""
    answer = protocol.Answer(
        frame_id=7,
        captured_at=1.25,
        settled=9,
        settings_version=3,
        verdict="cached",
        timings=tuple(float(number) for number in range(1, 11)),
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
        "RILL_REFERENCE_HEX": protocol.pack_reference(7, 1.25, "jpeg", b"\x01\x02\x03").hex(),
    }


def served(folder: Path) -> Path:
    """A copy of tests and client in `folder`, the client as the server gives it out; the folder of the tests."""
    client, tests = folder / "assets" / "client", folder / "tests" / "page"
    client.mkdir(parents=True)
    tests.mkdir(parents=True)
    for path in FILES:
        copy = client / path.relative_to(CLIENT)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(lean(path, path.stat().st_mtime_ns) or path.read_bytes())
    for path in HERE.glob("*.test.mjs"):
        shutil.copy(path, tests)
    return tests


@pytest.mark.parametrize("form", ["written", "served"])
def test_modules_in_node(form: str, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    tests = sorted(str(path) for path in (HERE if form == "written" else served(tmp_path)).glob("*.test.mjs"))
    environment = os.environ | header_fixtures()
    result = subprocess.run([node, "--test", *tests], capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert "# skipped 0" in result.stdout, result.stdout[-2000:]


def templates_within(text: str) -> list[int]:
    """The lines at which a template literal begins inside another one."""
    found: list[int] = []
    open_: list[int] = []  # per template literal: -1 in its text, else the braces that are open in its `${`
    tokens = re.compile(r"\\.|//[^\n]*|/\*.*?\*/|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`|\$\{|[{}]", re.S)
    at = 0
    while token := tokens.search(text, at):
        at = token.end()
        in_text = bool(open_) and open_[-1] < 0
        match token.group():
            case "`" if in_text:
                open_.pop()
            case "`":
                if open_:
                    found.append(text.count("\n", 0, at) + 1)
                open_.append(-1)
            case "${" if in_text:
                open_[-1] = 0
            case "{" if open_ and not in_text:
                open_[-1] += 1
            case "}" if open_ and not in_text:
                open_[-1] -= 1
            case other if in_text and other[0] in "/\"'":
                at = token.start() + 1  # quotes and slashes mean nothing in a text
    return found


def test_templates_within_templates_are_found() -> None:
    assert templates_within("a = `x ${b ? `: ${c}` : 0} y`;\nd = `'${ {e: `f`} }`") == [1, 2]
    assert templates_within("a = `b 'c ${d({e: '`'})} // f`; // `g`\nh = `i`;") == []


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".js"], ids=lambda path: path.name)
def test_what_is_quoted_survives_being_served_lean(path: Path) -> None:
    text = path.read_text()
    assert templates_within(text) == []
    body = (lean(path, path.stat().st_mtime_ns) or b"").decode()
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(("//", "*", "/*")))
    quoted = {found for found in re.findall(r"\"(?:[^\"\\\n]|\\.)*\"|`[^`\n]*`", code) if " " in found and "//" not in found}
    assert not (lost := [words for words in quoted if words not in body]), lost


def test_an_edited_file_is_served_at_once(tmp_path: Path) -> None:
    script = tmp_path / "a.js"
    for number in (1, 2):
        script.write_text(f"// why\nexport const a = {number};\n")
        assert lean(script, number) == f"export const a={number};".encode()
    assert lean(tmp_path / "icon.svg", 0) is None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_client_files_are_short_and_name_no_other_host(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    hosts = set(re.findall(r"(?:https?|wss?)://([\w.-]+)", text))
    assert hosts <= {"www.w3.org", "localhost"}
