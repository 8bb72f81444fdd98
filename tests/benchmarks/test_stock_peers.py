"""Peers in an environment of their own: the process that answers for them, and the figures beside Rill's."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import openvino_peer, peer_environment, peers, shapes, stock_peers
from benchmarks.peer_environment import Peer, PeerError
from tests.benchmarks.command import closing
from tests.benchmarks.test_commands import PLAIN

WORKER = """
import json, sys
import numpy as np

print(json.dumps({"ready": {"openvino": "1"}}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["lane"] == "broken":
        sys.exit(3)
    pictures = np.load(asked["pictures"])
    if asked["save"]:
        np.save(asked["save"], 255 - pictures)
    print(json.dumps({"milliseconds": [20.0] * len(pictures)}), flush=True)
"""
PICTURES = [np.full((16, 16, 3), value, np.uint8) for value in (0, 100)]


@pytest.fixture
def worker(tmp_path: Path) -> list[str]:
    (tmp_path / "worker.py").write_text(WORKER)
    return [sys.executable, str(tmp_path / "worker.py")]


def test_a_lane_is_timed_where_it_runs_and_gives_its_pictures(worker: list[str], tmp_path: Path) -> None:
    with Peer(worker) as peer:
        lane = stock_peers.PeerLane(peer, "one", tmp_path)
        lane.block(PICTURES)
        made = lane.made(PICTURES)
    assert peer.versions == {"openvino": "1"}
    assert lane.fps == [50.0] and lane.milliseconds == [20.0, 20.0], "pictures that are kept are not timed"
    assert [int(picture[0, 0, 0]) for picture in made] == [255, 155]


def test_a_peer_that_ends_is_an_error_with_its_status(worker: list[str], tmp_path: Path) -> None:
    with Peer(worker) as peer, pytest.raises(PeerError, match="ended with 3"):
        stock_peers.PeerLane(peer, "broken", tmp_path).block(PICTURES)
    with pytest.raises(PeerError, match="ended with 1"):
        Peer([sys.executable, "-c", "raise SystemExit(1)"])


def test_an_environment_is_made_once_with_torch_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def made(folder: Path, with_pip: bool) -> None:
        peer_environment.python_of(folder).parent.mkdir(parents=True)
        peer_environment.python_of(folder).write_text("")

    def ran(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command[1:])
        return subprocess.CompletedProcess(command, returncode=len(commands) // 3)

    monkeypatch.setattr(peer_environment.venv, "create", made)
    monkeypatch.setattr(peer_environment.subprocess, "run", ran)
    peer_environment.ensure(tmp_path / "new")
    assert [command[:2] for command in commands] == [["-m", "locks.install_torch"], ["-m", "pip"]]
    peer_environment.ensure(tmp_path / "new")
    assert len(commands) == 2, "an environment that is there is used"
    with pytest.raises(PeerError, match=r"locks.install_torch` failed with 1"):
        peer_environment.ensure(tmp_path / "other")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(PeerError, match="neither empty nor"):
        peer_environment.ensure(tmp_path / "full")


def test_the_pins_are_exact_and_share_our_openvino() -> None:
    def pins(name: str) -> dict[str, str]:
        lines = (line.partition("#")[0].strip() for line in (peer_environment.ROOT / name).read_text().splitlines())
        return dict(line.split("==") for line in lines if line)

    ours, theirs = pins("requirements.txt"), pins("requirements-peers.txt")
    assert theirs["openvino"] == ours["openvino"] and "torch" not in theirs


def test_lanes_take_turns_from_another_one_in_each_block() -> None:
    order: list[str] = []

    class Lane:
        def __init__(self, name: str) -> None:
            self.name, self.fps, self.milliseconds = name, [1.0], [1.0]

        def block(self, pictures: object) -> None:
            order.append(self.name)

    stock_peers.take_turns([Lane("a"), Lane("b"), Lane("c")], PICTURES, 2)
    assert order == ["a", "b", "c", "b", "c", "a"]


def test_the_command_measures_them_beside_rill(
    capsys: pytest.CaptureFixture[str], mini_model: Path, worker: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"block_out_channels": [32, 32, 32, 32], "attention_head_dim": 1}
    monkeypatch.setitem(shapes.MINIATURES, stock_peers.SHAPE, ("sd21", small))
    monkeypatch.setattr(shapes, "TAESD_CHANNELS", 8)
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    monkeypatch.setattr(peer_environment, "ensure", lambda folder: None)
    monkeypatch.setattr(stock_peers, "command", lambda *inputs: worker)
    options = ["--model", str(mini_model), *PLAIN, "--blocks", "1", "--frames", "2", "--openvino-peers", str(tmp_path)]
    found = closing(capsys, "peers", *options)["stock"]
    assert list(found["lanes"]) == ["rill openvino float32", *(f"{name} float32" for name in openvino_peer.LANES)]
    ours, theirs = found["lanes"]["rill openvino float32"], found["lanes"]["FastSD CPU float32"]
    assert theirs["generated_fps"] == 50.0
    assert theirs["times_faster_than_it"] == pytest.approx(ours["generated_fps"] / 50, rel=0.1)
    assert -1 <= theirs["ssim_to_rill"] < 0.5, "the worker inverts its pictures"


def test_the_noise_is_that_of_the_engine_s_first_level() -> None:
    from pipelines.techniques.noise import LevelNoise

    command = stock_peers.command(Path("python"), Path("m"), Path("e"), 512, "bfloat16", 7)
    assert command[command.index("--precision") + 1] == "bf16" and "-P" in command
    noise = LevelNoise(7, 0, (4, 8, 8)).value.numpy()
    import torch

    torch.manual_seed(int(command[command.index("--seed") + 1]))
    assert np.array_equal(torch.randn(1, 4, 8, 8)[0].numpy(), noise)
