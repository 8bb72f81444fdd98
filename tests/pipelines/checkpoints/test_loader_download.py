"""Downloads by the hub's own library from a stand-in on loopback: progress, the pinned commit, the error without a network."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from pipelines import ModelError, ModelParts, describe
from pipelines.checkpoints.loader import hub, networks
from pipelines.values.models import Hub
from tests.miniature import save_family

COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNWANTED = ("README.md", "unet/diffusion_pytorch_model.bin", "safety_checker/model.safetensors", "custom.py")
PINNED = Hub("some/model", COMMIT)


class StandIn:
    """A repository some/model at one commit, over HTTP, as far as a download needs it. requested: the paths below it."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.requested = files, list[str]()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str) -> bytes | None:
        """The body of an answer, None where there is no such thing."""
        match path.split("/")[1:]:
            case ["api", "models", "some", "model", "revision", commit] if commit == COMMIT:
                siblings = [{"rfilename": name} for name in self.files]
                return json.dumps({"id": "some/model", "sha": COMMIT, "siblings": siblings}).encode()
            case ["api", "models", "some", "model", "tree", commit] if commit == COMMIT:
                about = [{"type": "file", "path": at, "size": len(body), "oid": tag(body)} for at, body in self.files.items()]
                return json.dumps(about).encode()
            case ["some", "model", "resolve", commit, *rest] if commit == COMMIT:
                return self.files.get("/".join(rest))
        return None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if "some/model" in path:
                    hub.requested.append(path)
                body = hub.answer(path)
                self.send_response(404 if body is None else 200)
                if body is not None:
                    self.send_header("ETag", f'"{tag(body)}"')
                    self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body or b"")

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def tag(body: bytes) -> str:
    return sha1(body).hexdigest()


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The hub as its library sees it in this test, with a cache of its own; bars are drawn without a terminal."""
    folder = save_family(tmp_path / "model", "sd15", kl=False)
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    made = StandIn(files | dict.fromkeys(UNWANTED, b"not to be requested"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", made.address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", made.address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TQDM_POSITION", "-1")
    yield made
    made.close()


def test_a_download_shows_its_progress_and_requests_the_pinned_commit_alone(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    networks.quiet()  # as after a model that was loaded before
    capsys.readouterr()
    folder = hub.locate(PINNED, offline=False)
    seen = capsys.readouterr().err
    assert "100%" in seen and "MB" in seen, seen
    assert stand_in.requested and all(COMMIT in path for path in stand_in.requested)
    assert not any(path.endswith(UNWANTED) for path in stand_in.requested)
    assert folder.name == COMMIT and not any((folder / name).exists() for name in UNWANTED)


def test_a_download_is_found_offline_without_a_request(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    folder = hub.locate(PINNED, offline=False)
    stand_in.requested.clear()
    assert hub.locate(PINNED, offline=True) == folder and not stand_in.requested
    assert ModelParts(describe(f"some/model@{COMMIT}"), offline=True).branches == 6
    stand_in.close()
    assert hub.locate(PINNED, offline=False) == folder, "the hub does not answer, and is not needed"


def test_half_a_download_is_reported_offline_with_the_missing_file(stand_in: StandIn) -> None:
    (hub.locate(PINNED, offline=False) / "unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"unet.*safetensors"):
        ModelParts(describe(f"some/model@{COMMIT}"), offline=True)


def test_a_single_file_comes_with_its_progress_and_at_its_commit(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    name = "vae/diffusion_pytorch_model.safetensors"
    path = hub.locate(Hub("some/model", COMMIT, name), offline=False)
    assert path.read_bytes() == stand_in.files[name]
    assert "100%" in capsys.readouterr().err
    assert set(stand_in.requested) == {f"/some/model/resolve/{COMMIT}/{name}"}


@pytest.mark.parametrize("file", ["", "x.safetensors"])
def test_a_hub_out_of_reach_is_not_called_switched_off(stand_in: StandIn, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.close()
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # some 20 s between attempts at a file
    with pytest.raises(ModelError, match=r"at 0123\w+: is not downloaded yet, and the hub cannot be reached") as caught:
        hub.locate(Hub("some/model", COMMIT, file), offline=False)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="is not downloaded yet, and downloads are switched off"):
        hub.locate(Hub("some/model", COMMIT, file), offline=True)


def test_a_missing_commit_is_reported(stand_in: StandIn) -> None:
    with pytest.raises(ModelError, match="at fff"):
        hub.locate(Hub("some/model", "f" * 40), offline=False)
