"""Nothing in the client's folder is left over: style rules, custom properties, exports, functions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipelines import FIELDS
from studio.web.page.controls import element_id

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CLIENT = ROOT / "assets" / "client"
PAGE = ROOT / "studio" / "web" / "page"
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
SHEETS = {path.name: COMMENT.sub("", path.read_text(encoding="utf-8")) for path in CLIENT.glob("*.css")}
MODULES = {path: path.read_text(encoding="utf-8") for path in sorted(CLIENT.rglob("*.js"))}
LAYOUT = "\n".join(path.read_text(encoding="utf-8") for path in sorted(PAGE.glob("*.py")))
SOURCE = "\n".join([*MODULES.values(), LAYOUT])
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in HERE.glob("*.mjs"))
PARTS = set(re.findall(r'\bpart\("(\w+)"', LAYOUT))
PREFIXES = set(re.findall(r"rill-[\w-]*-(?=\$?\{)", SOURCE)) - {"rill-part-", "rill-host-"}
"""Classes that are put together: rill-layer-${kind}, rill-row-{kind}. Those of parts are checked by the parts' names."""


def is_made(name: str) -> bool:
    """Whether a class or id of ours is in the client or in the page's layout."""
    if part := re.fullmatch(r"rill-(?:part|host)-(\w+)", name):
        return part[1] in PARTS
    return re.search(rf"\b{name}\b(?!-)", SOURCE) is not None or any(name.startswith(prefix) for prefix in PREFIXES)


@pytest.mark.parametrize("sheet", SHEETS)
def test_every_rule_is_for_something_that_the_page_has(sheet: str) -> None:
    selectors = "".join(re.findall(r"[^{};]+(?=\{)", SHEETS[sheet]))
    names = set(re.findall(r"[.#](rill-[\w-]+)", selectors))
    assert len(names) >= 5
    settings = {element_id(key) for key in FIELDS}
    assert sorted(name for name in names - settings if not is_made(name)) == []


def test_every_custom_property_is_used() -> None:
    text = "".join(SHEETS.values())
    own = set(re.findall(r"(--(?:rill|[vs])-?[\w-]*):", text))
    used = set(re.findall(r"var\((--[\w-]+)", text + SOURCE)) | {f"--{kind}-" for kind in "vs" if f"--{kind}-${{" in SOURCE}
    assert len(own) > 10
    assert (
        sorted(name for name in own - used if not any(name.startswith(prefix) and prefix.endswith("-") for prefix in used)) == []
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(CLIENT).as_posix())
def test_every_function_is_called_and_every_export_imported(path: Path) -> None:
    text = MODULES[path]
    others = "\n".join(other for at, other in MODULES.items() if at != path) + TESTS + LAYOUT
    kinds = r"(?:async )?(?:function\*?|const|class)"
    exported = set(re.findall(rf"^export {kinds} (\w+)", text, re.MULTILINE)) - {"Studio"}
    own = set(re.findall(rf"^{kinds} (\w+)", text, re.MULTILINE))
    assert sorted(name for name in exported if not re.search(rf"\b{name}\b", others)) == []
    assert sorted(name for name in own if len(re.findall(rf"\b{name}\b", text)) < 2) == []
