"""The file by which programs of the same user find a server's token: who may read it, what is believed, when it goes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from studio import environment
from studio.client import StudioClient, StudioError
from studio.wire import token_file
from studio.wire.token_file import find, for_address, published
from tests.studio.harness import TOKEN, serving

PORT = 7860


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "rill"


def planted(folder: Path, content: object = None, mode: int = 0o600) -> Path:
    """A file as another program could leave it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "7860.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content or {"pid": os.getpid(), "token": "planted"}))
    path.chmod(mode)
    return path


def dead() -> int:
    """A number that was a process's, and is no process's now."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_it_is_there_for_its_user_alone_while_the_server_runs(folder: Path) -> None:
    before = os.umask(0)
    try:
        with published(PORT, "secret", [folder]) as path:
            assert path == folder / "7860.json" and find(PORT, [folder]) == "secret"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert find(PORT + 1, [folder]) is None and [entry.name for entry in folder.iterdir()] == ["7860.json"]
    finally:
        os.umask(before)
    assert list(folder.iterdir()) == [] and find(PORT, [folder]) is None


def test_it_goes_when_the_server_fails(folder: Path) -> None:
    with pytest.raises(RuntimeError), published(PORT, "secret", [folder]):
        raise RuntimeError
    assert find(PORT, [folder]) is None


def test_a_later_server_on_the_port_keeps_its_own(folder: Path) -> None:
    with published(PORT, "first", [folder]):
        later = published(PORT, "second", [folder])
        later.__enter__()
    assert find(PORT, [folder]) == "second"
    later.__exit__(None, None, None)
    assert find(PORT, [folder]) is None


def test_what_killed_servers_left_is_ignored_and_then_removed(folder: Path) -> None:
    path = planted(folder, {"pid": dead(), "token": "old"})
    assert find(PORT, [folder]) is None
    with published(PORT + 1, "secret", [folder]):
        assert not path.exists() and find(PORT + 1, [folder]) == "secret"


def link_to_a_file(folder: Path) -> None:
    planted(folder).rename(folder / "real")
    (folder / "7860.json").symlink_to("real")


def link_to_a_folder(folder: Path) -> None:
    planted(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


def open_folder(folder: Path) -> None:
    planted(folder)
    folder.chmod(0o755)


def a_pipe(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True)
    os.mkfifo(folder / "7860.json", 0o600)


@pytest.mark.parametrize(
    "trap",
    [
        link_to_a_file,
        link_to_a_folder,
        open_folder,
        a_pipe,
        lambda folder: (planted(folder).unlink(), (folder / "7860.json").mkdir(0o700)),
        lambda folder: planted(folder, mode=0o640),
        lambda folder: planted(folder, mode=0o604),
        lambda folder: planted(folder, "x" * 5000),
        lambda folder: planted(folder, "not json"),
        lambda folder: planted(folder, "[" * 4000),
        lambda folder: planted(folder, "[1, 2]"),
        lambda folder: planted(folder, {"pid": "one", "token": "x"}),
        lambda folder: planted(folder, {"pid": 10**30, "token": "x"}),
        lambda folder: planted(folder, {"pid": 0, "token": "x"}),
        lambda folder: planted(folder, {"token": "x"}),
    ],
)
def test_what_cannot_be_trusted_is_not_read(trap: Callable[[Path], object], folder: Path) -> None:
    folder.parent.mkdir()
    trap(folder)
    assert find(PORT, [folder]) is None


def test_another_users_file_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(folder)
    assert find(PORT, [folder]) == "planted"
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert find(PORT, [folder]) is None


def test_a_link_in_its_place_is_replaced_and_its_target_left_alone(folder: Path) -> None:
    victim = folder.parent / "victim"
    folder.mkdir(mode=0o700, parents=True)
    victim.write_text("precious")
    (folder / "7860.json").symlink_to(victim)
    with published(PORT, "secret", [folder]) as path:
        assert path is not None and not path.is_symlink() and find(PORT, [folder]) == "secret"
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("trap", [link_to_a_folder, open_folder])
def test_a_folder_that_is_not_ones_own_is_not_used(
    trap: Callable[[Path], None], folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.parent.mkdir()
    trap(folder)
    with published(PORT, "secret", [folder, tmp_path / "second"]) as path:
        assert path == tmp_path / "second" / "7860.json"
        assert find(PORT, [folder, tmp_path / "second"]) == "secret"
    with published(PORT, "secret", [folder]) as path:
        assert path is None
    assert "RILL_TOKEN" in caplog.text and "secret" not in caplog.text


def test_no_folder_at_all_is_logged_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with published(PORT, "secret", [tmp_path / "file" / "rill"]) as path:
        assert path is None
    assert "no token file" in caplog.text


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://127.0.0.1:7860", "secret"),
        ("ws://localhost:7860/rill/stream", "secret"),
        ("wss://[::1]:7860", "secret"),
        ("http://127.9.9.9:7860/x", "secret"),
        ("http://127.0.0.1", None),
        ("http://192.168.1.5:7860", None),
        ("http://localhost.evil.example:7860", None),
        ("http://evil.example:7860", None),
        ("http://127.0.0.1:99999", None),
    ],
)
def test_only_addresses_of_this_machine(url: str, found: str | None, folder: Path) -> None:
    with published(PORT, "secret", [folder]):
        assert for_address(url, [folder]) == found


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("RILL_CACHE", str(tmp_path / "cache"))
    assert environment.private_dirs() == [tmp_path / "rill", tmp_path / "cache" / "run"]
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "absent"))
    assert environment.private_dirs() == [tmp_path / "cache" / "run"]


async def test_a_program_on_this_machine_needs_to_be_given_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("RILL_TOKEN", raising=False)
    with serving() as server:
        with published(server.port, TOKEN, environment.private_dirs()):
            async with StudioClient(f"http://{server.host}") as client:
                assert client.welcome["type"] == "welcome"
        with pytest.raises(StudioError, match="API token"):
            async with StudioClient(f"http://{server.host}"):
                pass


def test_the_name_is_the_port() -> None:
    assert token_file.name_of(80) == "80.json"
