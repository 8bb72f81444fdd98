"""Compiled graphs on disk: whatever is damaged, missing or impossible there, graphs are built and the results are right."""

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipelines.graphs.backends import openvino as openvino_backend
from pipelines.graphs.backends import store
from pipelines.graphs.backends.openvino import OpenVinoBackend
from pipelines.graphs.backends.store import HEADER, GraphStore

X = torch.arange(48.0).reshape(1, 3, 4, 4) / 48


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layer(x),)


@pytest.fixture(autouse=True)
def reports(monkeypatch: pytest.MonkeyPatch) -> set[Any]:
    """What has been reported, empty at first."""
    fresh: set[Any] = set()
    monkeypatch.setattr(GraphStore, "_reported", fresh)
    return fresh


def built(folder: Path) -> Tensor:
    return OpenVinoBackend("float32", folder).build("k", Layer, (X,))(X)[0]


@pytest.fixture(scope="module")
def expected() -> Tensor:
    return Layer()(X)[0].detach()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of one graph."""
    folder = tmp_path_factory.mktemp("whole")
    built(folder)
    (path,) = (folder / "openvino").iterdir()
    return path


def placed(whole: Path, folder: Path, content: bytes | None) -> Path:
    """A file with this content, or a folder, where a backend with that cache looks for the graph."""
    path = folder / "openvino" / whole.name
    path.parent.mkdir()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    return path


def damages() -> Iterator[Any]:
    def flipped(at: float) -> Callable[[bytes], bytes]:
        def flip(content: bytes) -> bytes:
            start = int(at * (len(content) - 64))
            return content[:start] + bytes(byte ^ 255 for byte in content[start : start + 64]) + content[start + 64 :]

        return flip

    for at in (0.0, 0.05, 0.3, 0.6, 0.9, 1.0):
        yield pytest.param(flipped(at), id=f"flipped-{at}")
    for share in (0.0, 0.001, 0.01, 0.5, 0.999):
        yield pytest.param(lambda content, share=share: content[: int(share * len(content))], id=f"cut-{share}")
    yield pytest.param(lambda content: content + b"more", id="longer")
    yield pytest.param(lambda content: bytes(len(content)), id="zeros")
    yield pytest.param(lambda content: content[: HEADER.size], id="header-alone")
    yield pytest.param(None, id="folder")


@pytest.mark.parametrize("damage", list(damages()))
def test_a_damaged_file_counts_as_missing(
    damage: Callable[[bytes], bytes] | None, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = placed(whole, tmp_path, damage and damage(whole.read_bytes()))
    store = GraphStore(path.parent)
    assert store.read(path.name) is None and str(path) in caplog.text, "the reason is logged"
    assert path.is_dir() or not path.exists()


@pytest.mark.parametrize("content", [b"a damaged file", None], ids=["file", "folder"])
def test_what_counts_as_missing_is_built_anew(content: bytes | None, whole: Path, expected: Tensor, tmp_path: Path) -> None:
    path = placed(whole, tmp_path, content)
    torch.testing.assert_close(built(tmp_path), expected, rtol=0, atol=1e-3)
    if content is not None:
        assert GraphStore(path.parent).read(path.name), "and there is a whole one again"


def test_what_openvino_refuses_is_built_anew(whole: Path, expected: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "openvino" / whole.name
    refused = bytes([1]) + b"no graph of its kind"
    GraphStore(path.parent).write(path.name, refused)
    torch.testing.assert_close(built(tmp_path), expected, rtol=0, atol=1e-3)
    assert GraphStore(path.parent).read(path.name) not in (None, refused)


def test_a_whole_file_is_used(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: Tensor) -> None:
    placed(whole, tmp_path, whole.read_bytes())
    monkeypatch.setattr(openvino_backend.ov, "convert_model", None)
    torch.testing.assert_close(built(tmp_path), expected, rtol=0, atol=1e-3)


FULL = OSError(errno.ENOSPC, "No space left on device")


def full_disk(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    class Full:
        def __init__(self, handle: int, mode: str) -> None:
            self.file = open(handle, mode)  # noqa: SIM115 - closed in __exit__

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *about: object) -> None:
            self.file.close()

        def write(self, content: bytes) -> None:
            if len(content) > HEADER.size:
                self.file.write(content[: len(content) // 2])
                raise FULL
            self.file.write(content)

    monkeypatch.setattr(store.os, "fdopen", Full)


def no_rename(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def refuse(*paths: object) -> None:
        raise FULL

    monkeypatch.setattr(store.os, "replace", refuse)


def no_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)


def file_as_cache(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    folder.write_text("a file")


def file_as_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    folder.mkdir()
    (folder / "openvino").write_text("a file")


@pytest.mark.parametrize("trouble", [full_disk, no_rename, no_folder, file_as_cache, file_as_folder])
def test_where_nothing_can_be_written_one_line_is_logged(
    trouble: Callable[[pytest.MonkeyPatch, Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected: Tensor,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "cache"
    trouble(monkeypatch, folder)
    backend = OpenVinoBackend("float32", folder)
    for name in ("k", "l"):
        torch.testing.assert_close(backend.build(name, Layer, (X,))(X)[0], expected, rtol=0, atol=1e-3)
    assert [record.levelno for record in caplog.records if "built anew at each start" in record.getMessage()] == [logging.WARNING]
    assert not list(tmp_path.rglob("*.part")), "nothing half-written stays"


def test_a_write_that_dies_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = GraphStore(tmp_path)
    assert graphs.write("a", b"first")

    def die(*paths: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store.os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        graphs.write("a", b"second")
    assert graphs.read("a") == b"first" and [path.name for path in tmp_path.iterdir()] == ["a"]


def used(folder: Path, **moments: float) -> None:
    for name, moment in moments.items():
        os.utime(folder / name, (moment, moment))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_was_used_longest_ago_leaves_a_full_store(tmp_path: Path) -> None:
    size = HEADER.size + 100
    graphs = GraphStore(tmp_path, 3 * size)
    for name in "abc":
        graphs.write(name, bytes(100))
    used(tmp_path, a=1.0, b=2.0, c=3.0)
    assert graphs.read("a") == bytes(100), "reading is a use"
    graphs.write("d", bytes(100))
    assert names(tmp_path) == {"a", "c", "d"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= graphs.limit


def test_files_of_earlier_versions_count_and_leave(tmp_path: Path) -> None:
    (tmp_path / "old.xml").write_bytes(bytes(500))
    used(tmp_path, **{"old.xml": 1.0})
    GraphStore(tmp_path, 400).write("new", bytes(100))
    assert names(tmp_path) == {"new"}


def test_files_in_use_stay(tmp_path: Path) -> None:
    graphs = GraphStore(tmp_path, 2 * (HEADER.size + 100))
    for name in "ab":
        graphs.write(name, bytes(100))
    used(tmp_path, a=1.0, b=2.0)
    hold = graphs.lease("a")
    graphs.write("c", bytes(100))
    assert names(tmp_path) == {"a", "c"}
    both = hold, graphs.lease("c")
    assert not graphs.write("d", bytes(100)), "with all of them in use the newest one is not kept"
    assert names(tmp_path) == {"a", "c"}
    del hold, both
    assert graphs.write("d", bytes(100)) and names(tmp_path) == {"c", "d"}


def test_a_graph_holds_its_file(tmp_path: Path) -> None:
    backend = OpenVinoBackend("float32", tmp_path, disk=1)
    backend.store = GraphStore(tmp_path / "openvino")
    graph = backend.build("k", Layer, (X,))
    (path,) = (tmp_path / "openvino").iterdir()
    GraphStore(path.parent, 1).write("other", bytes(100))
    assert path.exists()
    del graph
    GraphStore(path.parent, 1).write("other", bytes(100))
    assert not path.exists()


def test_parts_of_processes_that_died_are_removed(tmp_path: Path) -> None:
    (tmp_path / "old.part").write_bytes(b"half")
    (tmp_path / "young.part").write_bytes(b"half")
    used(tmp_path, **{"old.part": time.time() - 2 * store.ABANDONED_S})
    GraphStore(tmp_path).write("a", b"whole")
    assert names(tmp_path) == {"a", "young.part"}
