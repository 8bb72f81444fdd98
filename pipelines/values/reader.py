"""Reads files of a model's folder safely: paths inside the folder, regular files of limited size, JSON of limited depth.

Libraries get the content that was read here, never a folder. From a folder they would open unchecked files by themselves
(adapters, chat templates, generation settings, code). All functions raise ModelError, which names the file.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.values.types import ModelError

MAX_BYTES = 16 * 2**20
"""The largest published file that is read as a whole, a tokenizer's vocabulary, has 1 MB."""

MAX_DEPTH = 32
"""The deepest published one, a tokenizer.json, nests six levels."""


STARTS = (
    (b"version https://git-lfs.github.com", "a Git LFS pointer, not the file itself: run git lfs pull, or download the file"),
    (b"<!doctype html", "an HTML page, such as a login or error page: download the file again, with an account if it needs one"),
    (b"<html", "an HTML page, such as a login or error page: download the file again, with an account if it needs one"),
    (b"<?xml", "an XML text, such as the error of a download: download the file again"),
    (b"pk\x03\x04", "a zip archive, such as a pickled checkpoint of PyTorch, which may run code: use the .safetensors file"),
    (b"\x80\x02", "a pickle, which may run code: use the .safetensors file"),
    (b"\x80\x04", "a pickle, which may run code: use the .safetensors file"),
    (b"gguf", "a GGUF file: its name must end in .gguf, and it can only be the UNet of a model (+unet=)"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"\x89hdf", "an HDF5 file of Keras: use the .safetensors file"),
    (b"{", "a JSON text, such as the error of a download: download the file again"),
)
"""First bytes in lower case → what a file is that bears another file's name."""


def other_kind(start: bytes) -> str | None:
    """What a file is that begins with these bytes; None if it is none of STARTS."""
    if not start:
        return "empty: download the file again"
    plain = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((what for begin, what in STARTS if plain.startswith(begin)), None)


class ModelFolder:
    """A model's folder. Names and links can never open a file outside it.

    The hub's cache stores a snapshot's files as links to blobs beside it, so there the limit is the repository's cache folder.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            self.root = path.resolve()
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle
            raise ModelError(f"{path.name}: cannot be found: {error}") from error
        caches = (at.parent for at in self.root.parents if at.name == "snapshots" and (at.parent / "blobs").is_dir())
        self.limit = next(caches, self.root)

    def path(self, name: str) -> Path:
        """The path of the file or folder `name`, which may be missing. Raises ModelError if it is outside."""
        pure = PurePosixPath(name)
        try:
            path = (self.root / pure).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise ModelError(f"{self.name}/{name}: cannot be found: {error}") from error
        if pure.is_absolute() or ".." in pure.parts or not path.is_relative_to(self.limit):
            raise ModelError(f"{self.name}/{name}: leads out of the model folder")
        return path

    def has(self, name: str) -> bool:
        path = self.path(name)
        try:
            return path.exists()
        except OSError as error:
            raise ModelError(f"{self.name}/{name}: {error.strerror or error}") from error

    def files(self, name: str, pattern: str, most: int = MAX_BYTES) -> list[Path]:
        """The files of the folder `name` whose names match, sorted; empty if the folder is missing.

        Raises ModelError for one that is outside, not a regular file or larger than `most` bytes.
        """
        found = sorted(path.name for path in self.path(name).glob(pattern))
        for file in found:
            if require_file(self.path(f"{name}/{file}"), f"{self.name}/{name}/{file}") > most:
                raise ModelError(f"{self.name}/{name}/{file}: is larger than {most / 2**20:g} MB")
        return [self.path(f"{name}/{file}") for file in found]

    def json(self, name: str, most: int = MAX_BYTES) -> dict[str, Any]:
        """The JSON object of at most `most` bytes in the file `name`."""
        return read_json(self.path(name), f"{self.name}/{name}", most)

    def text(self, name: str, most: int = MAX_BYTES) -> str:
        """The UTF-8 text of at most `most` bytes in the file `name`."""
        label = f"{self.name}/{name}"
        try:
            return read_bytes(self.path(name), label, most).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelError(f"{label}: is not UTF-8 text: {error}") from error


def read_json(path: Path, label: str, most: int = MAX_BYTES) -> dict[str, Any]:
    """The JSON object in a file. Raises ModelError, whose message begins with `label`."""
    return parse_json(read_bytes(path, label, most), label)


def parse_json(content: bytes | str, label: str, unique: bool = False) -> dict[str, Any]:
    """A JSON object of at most MAX_DEPTH levels. Raises ModelError, whose message begins with `label`.

    unique: a repeated name in an object is an error; otherwise the last one counts.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_doubles if unique else None)
    except RecursionError:
        raise ModelError(f"{label}: nests deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        start = content[:80].encode() if isinstance(content, str) else content[:80]
        what = None if start.lstrip()[:1] == b"{" else other_kind(start)
        raise ModelError(f"{label}: is not readable JSON: {f'it is {what}' if what else error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{label}: is not a JSON object")
    if _depth_exceeds(value, MAX_DEPTH):
        raise ModelError(f"{label}: nests deeper than {MAX_DEPTH} levels")
    if "\\ud" in text.lower() and _holds_half_characters(value):
        raise ModelError(f"{label}: is not readable JSON: a text in it is no Unicode (half of a surrogate pair)")
    return value


def read_bytes(path: Path, label: str, most: int = MAX_BYTES) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises ModelError, whose message begins with `label`."""
    require_file(path, label)
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise ModelError(f"{label}: {error.strerror or error}") from error
    if len(content) > most:
        raise ModelError(f"{label}: is larger than {most / 2**20:g} MB")
    return content


def require_file(path: Path, label: str) -> int:
    """The size in bytes of a regular file. Raises ModelError for a missing file, a folder, a pipe or a device.

    Opening a pipe would wait for ever, and a device has no end.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(f"{label}: is missing") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{label}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(found.st_mode):
        raise ModelError(f"{label}: is no plain file")
    return found.st_size


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a name stands in it twice")
    return content


def _depth_exceeds(value: object, most: int) -> bool:
    level = [value]
    for _ in range(most):
        inner: list[object] = []
        for node in level:
            if isinstance(node, dict):
                inner += node.values()
            elif isinstance(node, list):
                inner += node
        if not inner:
            return False
        level = inner
    return any(isinstance(node, (dict, list)) for node in level)


def _holds_half_characters(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
