"""The command `serve`: arguments, address, and a real start and stop in a process of its own."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import LoraUse, ModelError, Settings, SettingsError
from studio.cli import run_server, serve, serve_options
from studio.cli.arguments import parse_lora, safety_of, settings_of
from studio.visit.hub import Hub
from studio.wire import token_file
from studio.wire.origin import Origin
from tests.studio.fake import FakePipeline

ROOT = Path(__file__).resolve().parents[3]


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    serve_options.add_arguments(parser)
    return parser.parse_args(arguments)


def test_the_defaults_open_nothing_to_the_network() -> None:
    args = parsed()
    assert (args.host, args.port, args.model, args.size) == ("127.0.0.1", 7860, "pocket", "512")
    config = serve_options.configure(args, None)
    assert not config.rule.trusted_proxy and config.rule.allowed == () and config.rule.hosts == ("127.0.0.1",)
    assert len(config.token) >= 32 and config.token != serve_options.configure(args, None).token


def test_arguments_become_a_configuration() -> None:
    args = parsed(
        "--size", "384x256", "--allow-origin", "https://a.example/", "--allow-origin", "http://b:8080", "--max-sessions", "9"
    )
    config = serve_options.configure(args, "a-token-of-some-length")
    assert (config.spec.width, config.spec.height, config.limits.max_sessions) == (384, 256, 9)
    assert config.rule.allowed == (Origin("https", "a.example", 443), Origin("http", "b", 8080))
    assert config.token == "a-token-of-some-length"
    assert serve_options.configure(parsed("--max-waiting", "0"), None).limits.max_waiting == 0
    assert serve_options.configure(parsed("--max-waiting", "50"), None).limits.max_waiting == 50
    few = serve_options.configure(
        parsed("--max-connections", "280", "--max-waiting", "16", "--max-per-address", "9"), None
    ).limits
    assert (few.max_connections, few.max_per_address) == (280, 9)


@pytest.mark.parametrize(
    ("arguments", "public"),
    [
        ((), True),
        (("--host", "localhost"), True),
        (("--host", "127.0.0.2"), True),
        (("--host", "::1"), True),
        (("--host", "0.0.0.0"), False),
        (("--host", "::"), False),
        (("--host", "192.168.1.5"), False),
        (("--host", "studio.lan"), False),
        (("--trusted-proxy",), False),
        (("--host", "0.0.0.0", "--public"), True),
        (("--trusted-proxy", "--public"), True),
    ],
)
def test_a_server_reachable_from_elsewhere_requires_the_token(arguments: tuple[str, ...], public: bool) -> None:
    config = serve_options.configure(parsed(*arguments), None)
    assert config.public == public and config.users == {}


def test_a_login_holds_everywhere(tmp_path: Path) -> None:
    (tmp_path / "ada").write_text("correct horse\n")
    config = serve_options.configure(parsed("--login", f"ada:{tmp_path / 'ada'}"), None)
    assert not config.public and config.users == {"ada": "correct horse"}


def test_a_hosted_space_is_public_and_no_other_container() -> None:
    commands = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("CMD") and "app.py" in line]
    assert len(commands) == 2
    for command in commands:
        assert "${SPACE_HOST:+--trusted-proxy --public}" in command and command.count("--public") == 1


def test_what_sessions_start_with() -> None:
    ours = serve_options.OPENING["pocket"]
    assert ours["cache.enabled"] and ours["consistency.enabled"]
    assert serve_options.configure(parsed(), None).opening.flat() == Settings().flat() | ours
    assert serve_options.configure(parsed("--model", "sd-turbo"), None).opening.flat() == Settings().flat()
    chosen = serve_options.configure(parsed("--set", "cache.enabled=false", "--set", "strength=0.4"), None).opening
    assert chosen.flat() == Settings().flat() | ours | {"cache.enabled": False, "strength": 0.4}
    with pytest.raises(serve_options.UsageError, match="--set: strength"):
        serve_options.configure(parsed("--set", "strength=7"), None)


@pytest.mark.parametrize("parts", ["", "+taesd", "@main"])
def test_a_distilled_lcm_begins_with_the_guidance_of_its_card(parts: str) -> None:
    model = f"lcm-dreamshaper-v7{parts}"
    assert serve_options.configure(parsed("--model", model), None).opening.flat() == Settings().flat() | {"guidance": 8.0}
    assert serve_options.configure(parsed("--model", model, "--set", "guidance=3"), None).opening.guidance == 3.0
    given = argparse.Namespace(model=model, prompt=None, strength=None, steps=None, seed=None, preset=None, assignments=[])
    assert settings_of(given).guidance == 8.0
    assert settings_of(argparse.Namespace(**{**vars(given), "model": "sd-turbo"})).guidance == Settings().guidance


def test_permission_to_change_the_spec(tmp_path: Path) -> None:
    assert serve_options.configure(parsed(), None).changes.who == "alone"
    assert serve_options.configure(parsed("--trusted-proxy"), None).changes.who == "token"
    chosen = serve_options.configure(parsed("--trusted-proxy", "--spec-changes", "never", "--model-folder", str(tmp_path)), None)
    assert (chosen.changes.who, chosen.changes.folders) == ("never", (tmp_path,))


def test_loras_at_the_start_and_those_that_may_be_added(tmp_path: Path) -> None:
    (tmp_path / "a:b.safetensors").touch()
    given = ["--lora", "lcm-lora", "--lora", "a/b:-0.5", "--lora", str(tmp_path / "a:b.safetensors")]
    config = serve_options.configure(parsed(*given, "--lora-folder", str(tmp_path)), None)
    assert config.spec.loras == (LoraUse("lcm-lora"), LoraUse("a/b", -0.5), LoraUse(str(tmp_path / "a:b.safetensors")))
    offered = Hub(config, FakePipeline)
    offered.fleet.owners[0].loaded.set_result(FakePipeline(config.spec))  # type: ignore[arg-type]
    assert offered.facts(False)["change"]["loras"] == [use.name for use in config.spec.loras]  # type: ignore[index]


def test_blocked_words_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("gore\n")
    config = serve_options.configure(parsed("--blocked-words", str(path)), None)
    with pytest.raises(SettingsError, match="prompt: holds a word"):
        Hub(config, FakePipeline).check(Settings().patched({"prompt": "Gore!"}))
    path.write_text("")
    for bad in (path, tmp_path / "absent.txt"):
        with pytest.raises(serve_options.UsageError, match="--blocked-words"):
            serve_options.configure(parsed("--blocked-words", str(bad)), None)


def test_the_safety_checker_is_off_by_default(tmp_path: Path) -> None:
    assert safety_of(parsed()) is None
    with pytest.raises(ModelError, match="is missing"):
        safety_of(parsed("--safety-checker", str(tmp_path)))
    with pytest.raises(ModelError, match="is not downloaded yet"):
        safety_of(parsed("--safety-checker", "published", "--offline"))


def test_names_that_mean_this_server() -> None:
    assert serve_options.host_names("127.0.0.1", False) == ("127.0.0.1",)
    assert serve_options.host_names("0.0.0.0", True) == ("*",)
    assert socket.gethostname().lower() in serve_options.host_names("0.0.0.0", False)
    assert serve_options.host_names("::1", False) == ("[::1]",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "--port"),
        (["--metrics-port", "-1"], "--metrics-port"),
        (["--metrics-port", "7861", "--port", "7861"], "--metrics-port"),
        (["--size", "500"], "--size"),
        (["--size", "huge"], "--size"),
        (["--max-sessions", "0"], "--max-sessions"),
        (["--max-waiting", "-1"], "--max-waiting"),
        (["--max-connections", "0"], "--max-connections"),
        (["--max-connections", "70000"], "--max-connections"),
        (["--max-connections", "279", "--max-waiting", "16"], "--max-connections: 280 at least"),
        (["--max-waiting", "5000"], "--max-connections: 5264 at least"),
        (["--max-per-address", "0"], "--max-per-address"),
        (["--allow-origin", "evil"], "--allow-origin"),
        (["--allow-origin", "*"], "--allow-origin"),
        (["--ssl-certfile", "x.pem"], "together"),
        (["--model-folder", "no/such/folder"], "--model-folder"),
        (["--lora-folder", "no/such/folder"], "--lora-folder"),
        (["--lora", "ink:much"], "--lora"),
        (["--login", "ada"], "--login"),
        (["--login", "ada:no/such/file"], "--login"),
        (["--login", "ada:file", "--public"], "--public"),
        (["--lora", "ink:7"], "--lora"),
        (["--lora", "ink", "--lora", "ink:0.5"], "--lora"),
        (["--ssl-certfile", "x.pem", "--ssl-keyfile", "y.pem"], "x.pem is not a file"),
        (["--host", "no.such.host.invalid"], "--host"),
    ],
)
def test_arguments_that_make_no_sense(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main(parsed("--port", "0", *arguments)) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("serve: error:") and error.count("\n") == 1


def test_a_short_token_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RILL_TOKEN", "secret")
    assert serve.main(parsed("--port", "0")) == 2
    error = capsys.readouterr().err
    assert "RILL_TOKEN" in error and "secret" not in error


def test_a_port_in_use_is_reported_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert serve.main(parsed("--port", port)) == 1
        assert f"cannot listen on 127.0.0.1 port {port}: " in capsys.readouterr().err
        assert serve.main(parsed("--port", "0", "--metrics-port", port)) == 1
        assert f"cannot listen on 127.0.0.1 port {port}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "tls", "url"),
    [("127.0.0.1", False, "http://127.0.0.1:"), ("0.0.0.0", True, "https://localhost:"), ("::1", False, "http://[::1]:")],
)
def test_the_address_is_one_to_open(host: str, tls: bool, url: str) -> None:
    try:
        listener = serve_options.listen(host, 0)
    except OSError:
        pytest.skip(f"{host} is not available here")
    with listener:
        assert run_server.describe_address(listener, tls) == f"{url}{listener.getsockname()[1]}"


def test_a_process_starts_prints_its_address_and_stops(mini_model: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "app.py",
        "serve",
        "--port",
        "0",
        "--model",
        str(mini_model),
        "--size",
        "128",
        "--backend",
        "eager",
    ]
    environment = os.environ | {"RILL_CACHE": str(tmp_path), "RILL_TOKEN": "", "XDG_RUNTIME_DIR": "", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        lines: list[str] = []
        while not (lines and lines[-1].startswith("Model")):
            line = process.stdout.readline()
            assert line, lines
            lines.append(line.strip())
        assert any(line.startswith("Rill is listening on http://127.0.0.1:") for line in lines)
        port = next(int(line.split(":")[2].split()[0]) for line in lines if line.startswith("Rill is listening on "))
        assert f"API token for clients that are not browsers: {token_file.find(port, [tmp_path / 'run'])}" in lines
        assert "is ready: 128x128, eager" in lines[-1]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert not list((tmp_path / "run").iterdir())
    finally:
        process.kill()
        process.communicate()


def test_a_drive_letter_of_a_lora_is_no_weight() -> None:
    path = r"C:\loras\ink.safetensors"
    assert parse_lora(path) == LoraUse(path) and parse_lora(f"{path}:0.8") == LoraUse(path, 0.8)
    assert parse_lora("C:/loras/ink.safetensors") == LoraUse("C:/loras/ink.safetensors")
