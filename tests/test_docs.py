"""Every document names files that exist, links lead somewhere, and no page is long."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 250
MAX_WIDTH = 160  # characters of a line that is no table row, link list or example
CODE = (".py", ".js", ".mjs", ".css")


def tracked() -> set[str]:
    """Every file of the repository, and every folder that holds one, relative to its root."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    files = {name for name in listed if (ROOT / name).exists()}
    folders = {parent.as_posix() for name in files for parent in Path(name).parents}
    return files | folders - {"."}


FILES = tracked()
NAMES = {Path(name).name for name in FILES}
TOPS = {name.split("/")[0] for name in FILES}
PAGES = sorted(name for name in FILES if name.endswith(".md"))
OURS = sorted(name for name in FILES if name.endswith(".py") and not name.startswith("tests/test_docs"))


def named_paths(text: str) -> set[str]:
    """The files and folders of this repository that a page names: as `code`, in a drawing or example, or as docs/PAGE.md."""
    found = set()
    for span in re.findall(r"`([^`\n]+)`", text):
        word = span.split()[0].rstrip("/,:").split("::")[0]
        if not re.fullmatch(r"[\w.-]+(/[\w.*-]+)*", word) or "*" in word:
            continue
        if ("/" in word and word.split("/")[0] in TOPS) or word.endswith(CODE):
            found.add(word)
    tops = "|".join(re.escape(top) for top in sorted(TOPS) if "." not in top)
    drawn = re.findall(rf"(?<![\w./-])(?:{tops})/[\w/.-]+\.(?:py|js|mjs|css|md)\b", text)
    return found | set(drawn)


def exists(path: str) -> bool:
    return path in FILES if "/" in path else path in NAMES


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text: str) -> list[str]:
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target and not target.startswith("mailto:")]


def broken_link(page: str, target: str) -> bool:
    path, _, anchor = target.partition("#")
    file = (ROOT / page).parent / path if path else ROOT / page
    if not file.exists():
        return True
    return bool(anchor) and anchor not in anchors(file)


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page: str) -> None:
    missing = sorted(path for path in named_paths((ROOT / page).read_text(encoding="utf-8")) if not exists(path))
    assert not missing, f"{page} names {missing}"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    broken = [target for target in links(text) if broken_link(page, target)]
    assert not broken, f"{page} links to {broken}"


@pytest.mark.parametrize("page", PAGES)
def test_every_module_that_a_page_runs_exists(page: str) -> None:
    modules = re.findall(r"python3? -m ([a-z_]+(?:\.[a-z_]+)*)", (ROOT / page).read_text(encoding="utf-8"))
    ours = [module for module in modules if module.split(".")[0] in TOPS]
    missing = [module for module in ours if importlib.util.find_spec(module) is None]
    assert not missing, f"{page} runs {missing}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_no_page_is_long(page: str) -> None:
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_LINES, f"{page} has {len(lines)} lines"
    wide = [number for number, line in enumerate(lines, 1) if len(line) > MAX_WIDTH and not line.startswith(("|", "    "))]
    assert not wide, f"{page} has lines of more than {MAX_WIDTH} characters: {wide}"


def test_every_page_is_in_an_index() -> None:
    for index in [page for page in PAGES if page.startswith("docs/") and page.endswith("README.md")]:
        folder = Path(index).parent
        linked = {(ROOT / folder / target.partition("#")[0]).resolve() for target in links((ROOT / index).read_text("utf-8"))}
        siblings = [page for page in PAGES if Path(page).parent == folder and page != index]
        missing = [page for page in siblings if (ROOT / page).resolve() not in linked]
        assert not missing, f"{index} leaves out {missing}"


def test_every_page_that_the_code_names_exists() -> None:
    for path in OURS:
        named = re.findall(r"\bdocs/[\w/.-]+\.md\b", (ROOT / path).read_text(encoding="utf-8"))
        missing = [page for page in named if page not in FILES]
        assert not missing, f"{path} names {missing}"


def test_paths_are_found_in_prose() -> None:
    """The checks above would pass on any page if they found nothing."""
    missing = {"studio/web/nothing.py", "gone.js", "docs/gone.md"}
    assert named_paths("see `studio/web/nothing.py`, `gone.js` and docs/gone.md") == missing
    assert named_paths("    model thread   studio/nothing.py") == {"studio/nothing.py"}
    assert named_paths("`owner/name` and `--set KEY=VALUE` and `/rill/view`") == set()
    assert not any(map(exists, missing))
    assert broken_link("README.md", "docs/gone.md") and broken_link("README.md", "#no-such-heading")
    assert len(PAGES) > 15 and "docs/architecture.md" in PAGES
