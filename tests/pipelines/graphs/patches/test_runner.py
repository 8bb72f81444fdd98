"""Which devices share a picture, and what happens where the worker does not start."""

import json
from dataclasses import replace

import pytest

from pipelines import PatchWorkerError, SpecError, StreamSpec
from pipelines.graphs.backends import selection
from pipelines.graphs.patches import runner
from pipelines.graphs.patches.runner import Limits, PatchRunner

TWO = ("cpu", "cpu")


def test_a_worker_that_never_answers_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RUN", "import sys; _ = {path!r}; sys.stdin.read()")
    patches = PatchRunner(StreamSpec(patch_devices=TWO), Limits(start=0.2))
    with pytest.raises(PatchWorkerError, match=r"was not ready within 0\.2 s"):
        patches._started()
    monkeypatch.setattr(runner, "RUN", "import sys; _ = {path!r}; print('ready', flush=True); sys.stdin.read()")
    patches = PatchRunner(StreamSpec(patch_devices=TWO), Limits(exchange=0.2))
    with pytest.raises(PatchWorkerError, match="worker of cpu is gone"):
        patches._started()
    assert patches.process is not None and patches.process.poll() is not None  # none is left behind


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_devices": ("cuda:0",)}, "two GPUs"),
        ({"patch_devices": ("cuda:0", "cuda:0")}, "two GPUs"),
        ({"patch_devices": ("cpu", "cuda:0")}, "two GPUs"),
        ({"patch_devices": ("cuda", "cuda:1")}, "two GPUs"),
        ({"patch_devices": ("", "")}, "two GPUs"),
        ({"patch_devices": TWO, "backend": "openvino"}, "only the eager backend"),
        ({"patch_devices": TWO, "backend": "compile"}, "only the eager backend"),
        ({"patch_devices": TWO, "device": "cuda"}, "must be the device"),
        ({"patch_devices": TWO, "hires": "full"}, "neither hires nor stitch"),
        ({"patch_devices": TWO, "stitch": "small"}, "neither hires nor stitch"),
        ({"patch_exchange": "sometimes"}, "not one of synchronous, stale, border"),
    ],
)
def test_devices_that_cannot_share_a_picture_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        StreamSpec(**changes)  # type: ignore[arg-type]


def test_devices_that_are_missing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(SpecError, match="cuda:1 is missing; this machine has 1"):
        selection.resolve(StreamSpec(patch_devices=("cuda:0", "cuda:1")))


@pytest.mark.parametrize(("height", "extras", "message"), [(192, False, "multiples of 128"), (256, True, "ControlNet")])
def test_pictures_that_cannot_be_halved_are_refused(height: int, extras: bool, message: str) -> None:
    spec = selection.resolve(StreamSpec(height=height, patch_devices=TWO))
    assert (spec.backend, spec.device) == ("eager", "cpu")
    with pytest.raises(SpecError, match=message):
        selection.check_halves(spec, 64, extras)
    selection.check_halves(replace(spec, patch_devices=()), 64, extras)


def test_a_spec_with_two_devices_survives_json() -> None:
    spec = StreamSpec(patch_devices=TWO, patch_exchange="border")
    fields = json.loads(json.dumps({"patch_devices": spec.patch_devices, "patch_exchange": spec.patch_exchange}))
    assert StreamSpec(**fields) == spec
