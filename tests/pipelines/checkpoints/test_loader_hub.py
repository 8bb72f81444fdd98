"""The hub without a network: its cache as its library lays it out, its answers and errors given by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from pipelines import REGISTRY, ModelError, ModelParts, describe
from pipelines.checkpoints.loader import hub
from pipelines.values.models import Hub
from tests.miniature import save_family

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put(cache: Path, repo: str, folder: Path, commit: str = COMMIT) -> Path:
    """A folder as the hub's cache keeps it: blobs, and links to them under the commit."""
    root = cache / f"models--{repo.replace('/', '--')}"
    (root / "blobs").mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        blob = root / "blobs" / f"{number:040x}"
        blob.write_bytes(path.read_bytes())
        link = root / "snapshots" / commit / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    return root


def locate(place: Hub, cache: Path, offline: bool, monkeypatch: pytest.MonkeyPatch) -> Path:
    real = huggingface_hub.snapshot_download
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *args, **kw: real(*args, cache_dir=cache, **kw))
    return hub.locate(place, offline)


def test_what_was_downloaded_loads_offline_through_the_caches_links(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache, "some/model", save_family(tmp_path / "model", "sd15"))
    folder = locate(Hub("some/model", COMMIT), cache, True, monkeypatch)
    assert folder.name == COMMIT
    parts = ModelParts(dataclasses.replace(describe("some/model"), base=folder))
    assert parts.unet is not None and parts.encode_prompt("ink")[0].isfinite().all()


def test_a_missing_model_is_reported_in_one_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"no/model at 0123\w+: is not downloaded yet, and downloads are switched off"):
        locate(Hub("no/model", COMMIT), cache, True, monkeypatch)
    with pytest.raises(ModelError, match="downloads are switched off"):
        hub.locate(Hub("no/model", COMMIT, "x.safetensors"), True)
    with pytest.raises(ModelError, match=r"only .safetensors"):
        hub.locate(Hub("no/model", COMMIT, "x.bin"), True)


def answering(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[dict[str, Any]]:
    """The hub answers model_info with a list of names, or raises; downloads are noted instead of made."""
    requested: list[dict[str, Any]] = []

    def info(self: Any, repo: str, revision: str | None = None) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(sha=COMMIT, siblings=[SimpleNamespace(rfilename=name) for name in answer])

    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, **kw: requested.append({"repo": repo, **kw}) or "/x")
    return requested


FILES = [
    "README.md",
    "model_index.json",
    "v1-5-pruned.safetensors",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/evil.py",
    "vae/config.json",
    "vae/diffusion_pytorch_model-00001-of-00002.safetensors",
    "vae/diffusion_pytorch_model-00002-of-00002.safetensors",
    "vae/diffusion_pytorch_model.safetensors.index.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "safety_checker/model.safetensors",
    "unet/onnx/model.safetensors",
]


def test_only_needed_files_are_requested_and_at_the_listed_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    requested = answering(monkeypatch, FILES)
    hub.locate(Hub("some/model"), offline=False)
    assert requested[0]["revision"] == COMMIT
    assert requested[0]["allow_patterns"] == [
        "model_index.json",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model-00001-of-00002.safetensors",
        "vae/diffusion_pytorch_model-00002-of-00002.safetensors",
        "vae/diffusion_pytorch_model.safetensors.index.json",
    ]


def test_an_autoencoders_repository_has_its_files_at_the_top() -> None:
    names = ["config.json", "diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors", "taesd_decoder.safetensors"]
    assert hub.needed(names) == ["config.json", "diffusion_pytorch_model.safetensors"]


def test_a_repository_of_pickles_is_refused_before_it_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    requested = answering(monkeypatch, ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.bin"])
    with pytest.raises(ModelError, match="only pickled weights"):
        hub.locate(Hub("some/model"), offline=False)
    assert not requested


def failure(kind: type[Exception]) -> Exception:
    if kind.__module__ == "builtins":
        return kind("the first line\nand more")
    error = kind.__new__(kind, "the first line\nand more")
    error.args = ("the first line\nand more",)
    return error


@pytest.mark.parametrize(
    "kind, words",
    [
        (errors.GatedRepoError, "log in"),
        (errors.RepositoryNotFoundError, "no such repository"),
        (errors.RevisionNotFoundError, "no such revision"),
        (errors.EntryNotFoundError, "no such file"),
        (errors.HfHubHTTPError, "the hub refuses: the first line$"),
        (errors.OfflineModeIsEnabled, "downloads are switched off"),
        (errors.LocalEntryNotFoundError, "cannot be reached"),
        (PermissionError, "cannot be downloaded: the first line$"),
    ],
)
def test_the_hubs_errors_become_sentences(monkeypatch: pytest.MonkeyPatch, kind: type[Exception], words: str) -> None:
    answering(monkeypatch, failure(kind))
    with pytest.raises(ModelError, match=words) as caught:
        hub.locate(Hub("some/model"), offline=False)
    assert "\n" not in str(caught.value)


def test_without_a_network_the_last_download_does(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = huggingface_hub.snapshot_download
    put(cache, "some/model", save_family(tmp_path / "model", "sd15"))
    answering(monkeypatch, errors.HTTPError("no route"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *args, **kw: real(*args, cache_dir=cache, **kw))
    assert hub.locate(Hub("some/model"), offline=False).name == COMMIT
    with pytest.raises(ModelError, match="is not downloaded yet"):
        hub.locate(Hub("other/model"), offline=False)


def test_registered_models_that_are_not_downloaded_are_reported() -> None:
    for info in REGISTRY.values():
        if isinstance(info.base, Hub):
            with pytest.raises(ModelError, match="is not downloaded yet"):
                ModelParts(info, offline=True)
