"""The direction of imports: app → studio → pipelines → kernels; training, benchmarks, deploy stand above it."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

import pipelines

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "kernels": set(),
    "pipelines": {"kernels"},
    "studio": {"pipelines"},
    "app": {"studio", "pipelines", "benchmarks"},
    "training": {"app", "studio", "pipelines", "kernels"},
    "benchmarks": {"app", "studio", "pipelines", "kernels", "training"},
    "deploy": {"studio", "pipelines"},
}
STANDARD = {"__future__", "collections", "dataclasses", "importlib", "typing"}
WEB = {"fastapi", "starlette", "gradio", "uvicorn", "websockets", "httpx"}


def sources(layer: str) -> list[Path]:
    return [ROOT / "app.py"] if layer == "app" else sorted((ROOT / layer).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of every import anywhere in a file; name is "" for plain imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


def tops(path: Path) -> set[str]:
    return {module.split(".")[0] for module, _ in imports(path)}


@pytest.mark.parametrize("layer", ALLOWED)
def test_imports_point_one_way(layer: str) -> None:
    for path in sources(layer):
        upward = (tops(path) & set(ALLOWED)) - ALLOWED[layer] - {layer}
        assert not upward, f"{path.relative_to(ROOT)} imports {upward}"


def test_studio_uses_only_what_pipelines_exports() -> None:
    for path in sources("studio"):
        for module, name in imports(path):
            if module.split(".")[0] == "pipelines":
                assert module == "pipelines" and name in pipelines.__all__, f"{path.relative_to(ROOT)}: {module} {name}"


def test_only_the_server_its_guard_its_files_and_the_page_import_the_web_frameworks() -> None:
    for path in sources("studio"):
        if path.name not in ("server.py", "guard.py", "files.py") and "page" not in path.parts:
            assert not tops(path) & {"fastapi", "starlette", "gradio"}, path


def test_kernels_import_torch_alone() -> None:
    paths = sources("kernels")
    assert paths
    for path in paths:
        assert tops(path) <= {*STANDARD, "torch", "triton", "xformers", "kernels"}, path


def test_pipelines_use_no_web_no_threads_no_environment() -> None:
    for path in sources("pipelines"):
        threads = {"threading", "asyncio", "concurrent", "multiprocessing", "socket"}
        if path.name in ("capture.py", "building.py"):
            threads -= {"threading"}  # locks, since torch records one CUDA graph in a process at a time, and traces one module
        assert not tops(path) & (WEB | threads), path
        text = path.read_text(encoding="utf-8")
        assert "os.environ" not in text and "getenv" not in text, path


def test_studio_does_no_tensor_arithmetic() -> None:
    for path in sources("studio"):
        assert not tops(path) & {"torch", "openvino", "diffusers", "transformers"}, path


def test_only_the_loader_imports_model_loaders() -> None:
    for path in sources("pipelines"):
        if path.parent.name != "loader" and path.name not in (
            "autoencoder.py",
            "cosine_autoencoder.py",
            "hires.py",
            "latent_gate.py",
            "modulation.py",
            "painter.py",
            "style_reader.py",
            "trunk.py",
            "unet.py",
            "window.py",
        ):  # these are networks, they load nothing
            assert not tops(path) & {"diffusers", "transformers"}, path
    for path in sources("studio"):
        assert "from_pretrained" not in path.read_text(encoding="utf-8"), path


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for layer in ALLOWED:
        for path in sources(layer):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: Iterable[str]) -> set[str]:
    """The modules of ours that a file imports anywhere: at the top, within a function, or for types alone."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (
                inner if inner <= set(known) else {node.module, *inner}
            )  # a package that only leads to its modules is no import
    return names & set(known)


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        todo = list(graph.get(start, ()))
        while todo:
            node = todo.pop()
            if node not in seen:
                seen.add(node)
                todo += graph.get(node, ())
        return seen

    reached = {node: reach(node) for node in graph}
    groups = {
        frozenset(other for other in reached[node] if node in reached.get(other, ())) for node in graph if node in reached[node]
    }
    return sorted(sorted(group) for group in groups)


BEING_UNTIED = {"training.denoiser", "training.export", "training.grow", "training.refine", "training.sheet"}
"""Files whose circle is still there; to be removed with it."""


def test_no_circle_between_files() -> None:
    known = modules()
    graph = {name: imported(path, known) - {name} for name, path in known.items()}
    assert [circle for circle in circles(graph) if not set(circle) <= BEING_UNTIED] == []


@pytest.mark.parametrize("layer", ["studio", "pipelines"])
def test_no_circle_between_rooms(layer: str) -> None:
    known = {name: path for name, path in modules().items() if name.startswith(f"{layer}.")}

    def room(name: str) -> str:
        return name.split(".")[1]

    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        graph.setdefault(room(name), set()).update({room(other) for other in imported(path, known)} - {room(name)})
    assert len(graph) > 5 and circles(graph) == []


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": {"e"}}) == [["a", "b", "c"], ["e"]]


@pytest.mark.parametrize("module", ["studio.client", "studio.stream.session"])
def test_the_ground_floor_needs_no_torch(module: str) -> None:
    code = f"import sys, {module}; print(*({{'torch', 'diffusers', 'transformers', 'openvino'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == []


MIRRORED = ("studio/stream", "studio/visit")


@pytest.mark.parametrize("room", MIRRORED)
def test_each_module_of_these_rooms_has_a_test_file_under_its_own_name(room: str) -> None:
    """Modules that hold nothing but values are left out: a test of them would repeat them."""
    missing = [
        path.stem
        for path in (ROOT / room).glob("*.py")
        if any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(ast.parse(path.read_text("utf-8"))))
        and not (ROOT / "tests" / room / f"test_{path.stem}.py").is_file()
    ]
    assert missing == []


TESTED = ["pipelines/engine", "pipelines/graphs"]
"""Folders of which every module has a test file under its own name."""


@pytest.mark.parametrize("folder", TESTED)
def test_every_module_has_a_test_file_under_its_own_name(folder: str) -> None:
    names = {path.stem for path in (ROOT / folder).rglob("*.py")} - {"__init__"}
    tested = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / folder).rglob("test_*.py")}
    assert len(names) > 5 and sorted(names - tested) == []
