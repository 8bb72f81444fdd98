"""How a program finds the API token of a server that the same user runs on the same machine: a file of mode 0600, named by the
server's port, in a folder of mode 0700. The server writes it when it begins and removes it when it ends.

Nothing is read or written through a link, in a folder or from a file that another user owns or may read. A file whose server has
died is ignored, and removed when the next server begins.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

log = logging.getLogger("rill")

MAX_BYTES = 4096
_NAME = re.compile(r"[0-9]{1,5}\.json")


@contextlib.contextmanager
def published(port: int, token: str, folders: Sequence[Path]) -> Iterator[Path | None]:
    """The file exists in this context, in the first of `folders` that takes it; None if none does, which is logged."""
    found = next((folder for folder in folders if _written(folder, port, token)), None)
    if found is None:
        tried = ", ".join(map(str, folders))
        log.warning("no token file (none of %s can hold one): programs here need --token or RILL_TOKEN", tried)
    try:
        yield None if found is None else found / name_of(port)
    finally:
        if found is not None:
            _withdraw(found, port, token)


def find(port: int, folders: Sequence[Path]) -> str | None:
    """The token of this user's server on that port, None if there is no file that can be trusted."""
    for folder in folders:
        with contextlib.suppress(OSError), _opened(folder) as directory:
            written = _read(directory, name_of(port))
            if written is not None and _alive(written[0]):
                return written[1]
    return None


def for_address(url: str, folders: Sequence[Path]) -> str | None:
    """The token of the server at an http(s) or ws(s) address of this machine, None elsewhere."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    with contextlib.suppress(ValueError):
        if host == "localhost" or ipaddress.ip_address(host).is_loopback:
            return find(parts.port or (443 if parts.scheme in ("https", "wss") else 80), folders)
    return None


def name_of(port: int) -> str:
    """The file's name."""
    return f"{port}.json"


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """A descriptor of the folder. Raises OSError, also where it is a link, another user's, or open to others."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not _ours(os.fstat(directory)):
            raise PermissionError(f"{folder} belongs to another user, or is open to others")
        yield directory
    finally:
        os.close(directory)


def _ours(state: os.stat_result) -> bool:
    return state.st_uid == os.geteuid() and not state.st_mode & 0o077


def _written(folder: Path, port: int, token: str) -> bool:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        with _opened(folder) as directory:
            _sweep(directory)
            _write(directory, name_of(port), json.dumps({"pid": os.getpid(), "token": token}).encode())
    except OSError as error:
        log.debug("no token file in %s: %s", folder, error)
        return False
    return True


def _write(directory: int, name: str, content: bytes) -> None:
    """Replace the file in one step: no reader sees half of it, and a link of that name is replaced, not followed."""
    passing = f".{name}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(passing, flags, 0o600, dir_fd=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(content)
        os.replace(passing, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(passing, dir_fd=directory)
        raise


def _read(directory: int, name: str) -> tuple[int, str] | None:
    """(pid, token) of a file that can be trusted, else None. Raises OSError."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or not _ours(state) or state.st_size > MAX_BYTES:
            return None
        try:
            content = json.loads(file.read(MAX_BYTES))
            return int(content["pid"]), str(content["token"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return None


def _withdraw(folder: Path, port: int, token: str) -> None:
    """Remove the file, unless another server has put its own in its place."""
    with contextlib.suppress(OSError), _opened(folder) as directory:
        if _read(directory, name_of(port)) == (os.getpid(), token):
            os.unlink(name_of(port), dir_fd=directory)


def _sweep(directory: int) -> None:
    """Remove what servers left that were killed."""
    for name in os.listdir(directory):
        if _NAME.fullmatch(name):
            with contextlib.suppress(OSError):
                written = _read(directory, name)
                if written is not None and not _alive(written[0]):
                    os.unlink(name, dir_fd=directory)


def _alive(pid: int) -> bool:
    """Does a process of this user have that number?"""
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return pid > 0
