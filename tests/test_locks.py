"""The locks cover exactly what is required and what is installed; torch comes first, without CUDA where there is no GPU."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from locks import __main__ as locks
from locks import install_torch

ENTRY = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)(?: ; (?P<marker>.+?))?(?P<hashes>(?: --hash=sha256:[0-9a-f]{64})+)$"
)
CUDA = ("nvidia", "cuda")


def entries(lock: str) -> list[re.Match[str]]:
    """One for each line of a lock, continued lines joined."""
    text = (locks.ROOT / "locks" / f"{lock}.txt").read_text(encoding="utf-8")
    lines = [" ".join(line.split()) for line in text.replace("\\\n", " ").splitlines() if not line.startswith("#")]
    found = [ENTRY.match(line) for line in lines]
    assert lines and all(found), [line for line, match in zip(lines, found, strict=True) if match is None]
    return [match for match in found if match is not None]


def versions(lock: str) -> dict[str, str]:
    """Name → version of the entries that hold on this machine."""
    here = [match for match in entries(lock) if match["marker"] is None or Requirement(f"x; {match['marker']}").marker.evaluate()]
    assert len({match["name"] for match in here}) == len(here)
    return {canonicalize_name(match["name"]): match["version"] for match in here}


def pins(names: Sequence[str]) -> list[Requirement]:
    return [Requirement(line) for name in names for line in locks.pins_of((locks.ROOT / name).read_text(encoding="utf-8"))]


@pytest.mark.parametrize("lock", locks.LOCKS)
def test_a_changed_pin_needs_a_new_lock(lock: str) -> None:
    text = (locks.ROOT / "locks" / f"{lock}.txt").read_text(encoding="utf-8")
    assert text.startswith(locks.header(lock)), "run `make lock`"


@pytest.mark.parametrize("lock", locks.LOCKS)
def test_every_pin_is_exact_and_in_its_lock(lock: str) -> None:
    locked = versions(lock)
    for pin in pins(locks.LOCKS[lock]):
        (exact,) = pin.specifier
        assert exact.operator == "==" and not exact.version.endswith("*"), pin
        if pin.name != "torch" and (pin.marker is None or pin.marker.evaluate()):
            assert locked[canonicalize_name(pin.name)] == exact.version


@pytest.mark.parametrize("lock", locks.LOCKS)
def test_a_lock_names_no_index_no_torch_and_no_cuda(lock: str) -> None:
    assert "://" not in (locks.ROOT / "locks" / f"{lock}.txt").read_text(encoding="utf-8")
    names = {match["name"] for match in entries(lock)}
    assert "torch" not in names and not [name for name in names if name.startswith(CUDA)]
    assert ("triton" in names) == (lock in ("dev", "gpu"))
    assert versions("run").items() <= versions(lock).items()


def needed(roots: Sequence[Requirement]) -> dict[str, str]:
    """Name → installed version of everything that these and their requirements pull in on this machine."""
    found: dict[str, str] = {}
    waiting = [(pin, extra) for pin in roots for extra in ("", *pin.extras)]
    seen = set()
    while waiting:
        pin, extra = waiting.pop()
        name = canonicalize_name(pin.name)
        if (name, extra) in seen or (pin.marker is not None and not pin.marker.evaluate({"extra": ""})):
            continue
        seen.add((name, extra))
        found[name] = importlib.metadata.version(name)
        for line in importlib.metadata.requires(name) or []:
            inner = Requirement(line)
            if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                plain = Requirement(f"{inner.name}{inner.specifier}")  # its marker has been looked at
                waiting += [(plain, wanted) for wanted in ("", *inner.extras)]
    return found


def test_what_is_installed_is_what_is_locked() -> None:
    installed = needed(pins(locks.LOCKS["dev"]))
    assert len(installed) > 90
    locked = versions("dev")
    outside = {"torch", *(name for name in installed if name.startswith(CUDA))}
    assert {name: version for name, version in installed.items() if name not in outside and locked.get(name) != version} == {}


def test_the_lock_holds_nothing_that_no_package_needs() -> None:
    assert versions("dev").keys() - needed(pins(locks.LOCKS["dev"])).keys() == set()


class Pip:
    """Answers in order; keeps the installation requests."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, ...]] = []

    def __call__(self, arguments: Sequence[str]) -> bool:
        self.calls.append(tuple(arguments))
        return self.answers.pop(0)

    @property
    def indexes(self) -> list[bool]:
        """Whether each call used the CPU index."""
        return [install_torch.CPU_INDEX in call for call in self.calls]


def never() -> bool:
    return False


def test_the_cpu_index_comes_first_and_alone(capsys: pytest.CaptureFixture[str]) -> None:
    pip = Pip(True)
    assert install_torch.install(pip, "torch==1.2", cpu_first=True, cuda=never)
    assert pip.indexes == [True] and "--no-deps" in pip.calls[0] and pip.calls[0][-1] == "torch==1.2"
    assert {"--timeout", "--retries"} <= set(pip.calls[0])
    assert capsys.readouterr().out == ""


def test_an_index_that_is_not_there_costs_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    pip = Pip(False, True)
    assert install_torch.install(pip, "torch==1.2", cpu_first=True, cuda=never)
    assert pip.indexes == [True, False] and capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(
    ("answers", "cuda", "worked", "calls"),
    [((True,), False, True, 1), ((True, True), True, True, 2), ((False,), False, False, 1), ((True, False), True, False, 2)],
)
def test_a_cuda_build_gets_what_it_names(answers: Sequence[bool], cuda: bool, worked: bool, calls: int) -> None:
    pip = Pip(*answers)
    assert install_torch.install(pip, "torch==1.2", cpu_first=False, cuda=lambda: cuda) is worked
    assert pip.indexes == [False] * calls and "--no-deps" not in pip.calls[1:2]


@pytest.mark.parametrize(
    ("platform", "nvidia", "arguments", "cpu"),
    [
        ("linux", False, [], True),
        ("linux", True, [], False),
        ("darwin", False, [], False),
        ("win32", False, [], False),
        ("linux", True, ["--build", "cpu"], True),
        ("linux", False, ["--build", "default"], False),
    ],
)
def test_which_index_is_used(
    monkeypatch: pytest.MonkeyPatch, platform: str, nvidia: bool, arguments: Sequence[str], cpu: bool
) -> None:
    pip = Pip(True)
    monkeypatch.setattr(install_torch.sys, "platform", platform)
    monkeypatch.setattr(install_torch, "has_nvidia", lambda: nvidia)
    monkeypatch.setattr(install_torch, "is_installed", lambda pin: False)
    monkeypatch.setattr(install_torch, "needs_cuda", never)
    monkeypatch.setattr(install_torch, "run_pip", pip)
    assert install_torch.main(arguments) == 0
    assert pip.indexes == [cpu]


def test_the_torch_that_is_here_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip()
    monkeypatch.setattr(install_torch, "run_pip", pip)
    assert install_torch.is_installed(install_torch.wanted()) and not install_torch.is_installed("torch==0.0.1")
    assert install_torch.main([]) == 0 and pip.calls == []


def texts(name: str) -> str:
    return Path(locks.ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["Makefile", "Dockerfile"])
def test_everything_is_installed_with_hashes(name: str) -> None:
    text = texts(name).replace("$(HASHED)", re.search(r"HASHED := (.*)", texts("Makefile"))[1])
    installs = [line for line in text.splitlines() if re.search(r"(pip|PIP\)) install", line)]
    assert installs and all("--require-hashes --no-deps -r locks/" in line for line in installs)


def test_the_base_image_has_an_exact_tag() -> None:
    bases = re.findall(r"^FROM (\S+:\S+)", texts("Dockerfile"), re.MULTILINE)
    assert bases and all(re.fullmatch(r"python:\d+\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base) for base in bases)
