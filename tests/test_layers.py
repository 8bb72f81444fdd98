"""The direction of imports: app → studio → pipelines → kernels; training, benchmarks, deploy stand above it."""

import ast
from collections.abc import Iterator
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


def test_only_the_server_its_guard_and_the_page_know_the_web_frameworks() -> None:
    for path in sources("studio"):
        if path.name not in ("server.py", "guard.py") and "page" not in path.parts:
            assert not tops(path) & {"fastapi", "starlette", "gradio"}, path


def test_kernels_know_torch_alone() -> None:
    paths = sources("kernels")
    assert paths
    for path in paths:
        assert tops(path) <= {*STANDARD, "torch", "triton", "xformers", "kernels"}, path


def test_pipelines_know_no_web_no_threads_no_environment() -> None:
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
            "modulation.py",
            "painter.py",
            "trunk.py",
            "unet.py",
        ):  # these are networks, they load nothing
            assert not tops(path) & {"diffusers", "transformers"}, path
    for path in sources("studio"):
        assert "from_pretrained" not in path.read_text(encoding="utf-8"), path
