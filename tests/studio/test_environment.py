from pathlib import Path

import pytest

from studio import environment


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RILL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    environment._log_once.cache_clear()


def test_the_cache_is_where_the_environment_puts_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert environment.cache_dir() == tmp_path / ".cache" / "rill"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert environment.cache_dir() == tmp_path / "x" / "rill"
    monkeypatch.setenv("RILL_CACHE", str(tmp_path / "r"))
    assert environment.cache_dir() == tmp_path / "r"


def test_a_user_without_a_home_has_no_cache_and_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    environment._log_once.cache_clear()
    assert environment.cache_dir() is None and environment.cache_dir() is None
    assert len(caplog.records) == 1 and "RILL_CACHE" in caplog.text
