"""Compiled graphs on disk between starts: one file each, with a checksum, and a limit for all of them together.

A file is written beside its place and renamed. What is damaged is removed and counts as missing, since a compiler may compute
anything from damaged weights; where nothing can be written, one line says so and graphs are built anew at each start.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import tempfile
import time
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from pipelines.values.types import GRAPHS_ON_DISK

log = logging.getLogger("rill")

HEADER = struct.Struct("<8sQI")  # magic, bytes of the content, their CRC-32
MAGIC = b"rillgrf1"
PART = ".part"
ABANDONED_S = 3600.0  # a part that is older was left by a process that died


class FileLease:
    """A file in use: it is not removed while a reference to this exists."""


_leases: weakref.WeakValueDictionary[Path, FileLease] = weakref.WeakValueDictionary()


class GraphStore:
    """The files of one folder, which other processes may use at the same moment. Nothing here raises OSError."""

    _reported: ClassVar[set[tuple[Path, str]]] = set()

    def __init__(self, folder: Path, limit: int = GRAPHS_ON_DISK) -> None:
        self.folder, self.limit = folder, limit
        self.refuses = False  # whether the last file could not be written

    def lease(self, name: str) -> FileLease:
        """Keep that file while the answer is referred to."""
        path = self.folder / name
        lease = _leases.get(path)
        if lease is None:
            lease = _leases[path] = FileLease()
        return lease

    def has(self, name: str) -> bool:
        """Whether there is a file of that name, whole or not."""
        return os.path.exists(self.folder / name)

    def read(self, name: str) -> bytes | None:
        """The content of that name, None if there is none that is whole."""
        path = self.folder / name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._report(f"cannot be read ({_reason(error)})", path)
            return None
        whole = _unpacked(content)
        if whole is None:
            self.discard(name, "is damaged")
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the moment of its last use, for `_trim`
        return whole

    def write(self, name: str, content: bytes) -> bool:
        """Keep `content` under that name. False if that cannot be done, which is reported."""
        path = self.folder / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._put(path, content)
        except OSError as error:
            self.refuses = True
            self._report(f"graphs cannot be kept there and are built anew at each start ({_reason(error)})", self.folder)
            return False
        self._trim(path)
        self.refuses = not path.exists()
        return not self.refuses

    def discard(self, name: str, why: str) -> None:
        """Remove a file that is of no use."""
        path = self.folder / name
        log.warning("%s %s; the graph is built anew", path, why)
        with contextlib.suppress(OSError):
            path.unlink()

    def _put(self, path: Path, content: bytes) -> None:
        handle, part = tempfile.mkstemp(PART, path.name, self.folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(HEADER.pack(MAGIC, len(content), zlib.crc32(content)))
                file.write(content)
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise

    def _trim(self, newest: Path) -> None:
        """Remove what was used longest ago, until the limit holds. Files in use stay; the newest one goes last."""
        files = sorted(self._files(), key=lambda file: (file[0] == newest, file[1]))
        excess = sum(size for _, _, size in files) - self.limit
        for path, _, size in files:
            if excess <= 0:
                return
            if path == newest:
                self._report(f"graphs are over {self.limit} bytes and are not all kept", self.folder)
            if path == newest or path not in _leases:
                with contextlib.suppress(OSError):
                    path.unlink()
                    excess -= size

    def _files(self) -> Iterator[tuple[Path, float, int]]:
        """(path, last use, bytes) of every file, of earlier versions too; parts that were abandoned are removed."""
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    about = entry.stat(follow_symlinks=False)
                    if not entry.is_file(follow_symlinks=False):
                        continue
                    if not entry.name.endswith(PART):
                        yield Path(entry.path), about.st_mtime, about.st_size
                    elif time.time() - about.st_mtime > ABANDONED_S:
                        os.unlink(entry.path)

    def _report(self, what: str, path: Path) -> None:
        """Once in a process for each kind of trouble."""
        if (path, what) not in self._reported:
            self._reported.add((path, what))
            log.warning("%s: %s", path, what)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _unpacked(content: bytes) -> bytes | None:
    if len(content) < HEADER.size:
        return None
    magic, size, checksum = HEADER.unpack_from(content)
    body = content[HEADER.size :]
    return body if (magic, size, checksum) == (MAGIC, len(body), zlib.crc32(body)) else None
