"""`pip install .`: what the wheel holds, and that its command runs away from the clone."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("assets", "kernels", "pipelines", "studio")
FILES = (
    "app.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "requirements.txt",
    "requirements-gpu.txt",
    "requirements-tensorrt.txt",
    "requirements-cluster.txt",
)
BUILD = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from links to the clone's files, so that nothing is written beside them."""
    folder = tmp_path_factory.mktemp("tree")
    for name in (*FOLDERS, *FILES):
        (folder / name).symlink_to(ROOT / name)
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, out], cwd=folder, capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return out / done.stdout.splitlines()[-1]


def tracked() -> set[str]:
    """Every file of the packages, without what Python writes beside them."""
    found = {path.relative_to(ROOT).as_posix() for name in FOLDERS for path in (ROOT / name).rglob("*") if path.is_file()}
    return {"app.py", *(name for name in found if "__pycache__" not in name)}


def test_the_wheel_holds_the_packages_and_all_assets(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == tracked()


def test_the_installed_command_runs_elsewhere(wheel: Path, tmp_path: Path) -> None:
    """Its entry point, and the models that it finds, from a folder into which the wheel was unpacked."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (entries,) = (tmp_path / "site").glob("rill-*.dist-info/entry_points.txt")
    assert "rill = app:console" in entries.read_text()
    code = (
        "import sys; sys.argv[0] = 'rill'; sys.path.insert(0, 'site'); import app; print(app.__file__); sys.exit(app.console())"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "models"], cwd=tmp_path, capture_output=True, text=True, timeout=150, check=True
    )
    assert done.stdout.startswith("site") or str(tmp_path) in done.stdout.splitlines()[0]
    assert re.search(r"^pocket .* present", done.stdout, re.MULTILINE)
    bench = subprocess.run(
        [sys.executable, "-P", "-c", code, "bench"], cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False
    )
    assert (bench.returncode, "clone" in bench.stderr) == (1, True)


def test_the_package_requires_what_is_pinned(wheel: Path) -> None:
    (metadata,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/METADATA"))
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    plain = {line for line in re.findall(r"^Requires-Dist: (.*)$", text, re.MULTILINE) if "extra ==" not in line}
    pins = {line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()}
    assert plain == {pin for pin in pins if pin}


def test_the_build_system_is_the_locked_one() -> None:
    (needed,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert f"\n{needed} " in (ROOT / "locks" / "dev.txt").read_text()
