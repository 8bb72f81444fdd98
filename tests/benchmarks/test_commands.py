"""Each benchmark from its command line on a miniature model: the closing JSON has its fields. Nothing here asserts speed."""

import asyncio
import contextlib
import json
import random
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

import app
from benchmarks import ablation, building, cli, live, machine, peers, scaling, sessions, soak, streamdiffusion_peer
from pipelines import FIELDS, Settings
from studio.cli import serve_options
from studio.client import StudioError
from studio.wire.protocol import declare
from tests.benchmarks.command import closing

PLAIN = ["--size", "128", "--backend", "eager", "--dtype", "float32"]
TOKEN = "a-token-for-the-benchmarks"


@pytest.fixture(scope="module")
def server(mini_model: Path) -> Iterator[live.Studio]:
    """One `app.py serve` for all benchmarks that start one: its start, mostly imports, takes longer than they do."""
    with live.studio(["--model", str(mini_model), *PLAIN, "--max-sessions", "8"], TOKEN) as running:
        yield running


@pytest.fixture
def started(server: live.Studio, mini_model: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The options with which benchmarks would have started a server of their own; they get the shared one."""
    options: list[list[str]] = []

    @contextlib.contextmanager
    def studio(given: Sequence[str], token: str) -> Iterator[live.Studio]:
        parsed = app.build_parser().parse_args(["serve", *given])
        assert (parsed.model, parsed.size, parsed.backend, parsed.dtype) == (str(mini_model), "128", "eager", "float32")
        assert token == TOKEN
        options.append(list(given))
        yield server

    for module in (sessions, building, soak):
        monkeypatch.setattr(module, "studio", studio)
    monkeypatch.setattr(secrets, "token_urlsafe", lambda count: TOKEN)
    return options


def test_steady(capsys: pytest.CaptureFixture[str], mini_model: Path, tmp_path: Path) -> None:
    options = ["--model", str(mini_model), *PLAIN, "--frames", "3", "--prompts", "a", "--cut-prompts", "1"]
    result = closing(capsys, "steady", *options, "--sheets", str(tmp_path))
    off, on, warm = (result["means"][name] for name in ("off", "consistency", "warm start 0.5"))
    assert (off["ratio"], off["ssim"], off["sharpness"], off["elsewhere"]) == (1.0, 1.0, 1.0, 0.0)
    assert on["ssim"] < 1 and warm["ssim"] < 1 and on["elsewhere"] > 0 and on["cpu_ms"] > 0
    assert {path.stem.rpartition("-")[2] for path in tmp_path.iterdir()} == {"a"}
    for cut in result["cuts"].values():
        assert len(cut["ssim_to_off"]) == 4 and cut["ssim_to_off"][0] > 0.99, "the first picture takes nothing"
        assert min(cut["ssim_to_fresh"]) > 0.999 and cut["apart_from_fresh"] < 0.1


def test_ablation_of_flicker_presets_and_partial_frames(capsys: pytest.CaptureFixture[str], mini_model: Path) -> None:
    options = ["--model", str(mini_model), "--clip", "handheld", "--frames", "2", "--repeats", "1", "--prompts", "a"]
    result = closing(capsys, "ablation", *PLAIN, *options, "--groups", "steady", "presets", "partial")
    steady, presets, partial = (result["groups"][name]["moving"] for name in ("steady", "presets", "partial"))
    assert steady["all off"]["warped_ratio"] == 1.0 and steady["consistency 0.6"]["warped_ratio"] > 0
    assert {name: figures["touched"] for name, figures in steady.items()} == {name: 2 * (name != "all off") for name in steady}
    assert {"consistency 0.4", "consistency 0.8", "warm start 0.3"} < steady.keys()
    assert list(presets) == ["all off", "cache/3"], "a miniature has no presets"
    assert partial["all off"]["touched"] == 0 and "partial" in partial


def test_ablation(capsys: pytest.CaptureFixture[str], mini_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "speed.png"
    options = ["--model", str(mini_model), "--groups", "one", "four", "--clip", "handheld", "--frames", "3", "--repeats", "2"]
    result = closing(capsys, "ablation", *PLAIN, *options, "--prompts", "a", "--prompts", "b", "--picture", str(target))
    assert result["clips"] == {"handheld": {"kind": "moving", "frames": 3 + ablation.LEAD}}
    moving = result["groups"]["one"]["moving"]
    assert list(moving) == ["all off", "gate", "cache", "cache/3", "cache/3 flat", "all on"]
    off, cache = moving["all off"], moving["cache"]
    assert off["model_fps_ratio"] == off["shown_per_cpu_s_ratio"] == 1.0 and off["touched"] == 0 and off["stretches"] == 2
    assert cache["touched"] == 4 and cache["share"] == {"generated": 0.333, "cached": 0.667, "skipped": 0.0}
    assert cache["ssim_mean"] <= 1.0 and set(cache["stage_ms"]) == {"encode", "denoise", "decode"}
    assert result["groups"]["four"]["moving"]["batch"]["touched"] == 6
    with Image.open(target) as picture:
        assert picture.format == "PNG" and picture.width > 1000


def test_ablation_reports_what_a_model_refuses(mini_model: Path) -> None:
    from benchmarks.configurations import groups
    from pipelines import StreamSpec, load

    pipeline = load(StreamSpec(str(mini_model), 128, 128, "eager", "float32", max_steps=1))
    material = ablation.load_clips(["still"], 128, 2)
    assert material[0].kind == "paused"
    result = ablation.Ablation(pipeline, material, ["a"], 0.5).group(groups(1.5)["four"], 2, 1)
    assert "steps" in result["refused"]["all off"] and "moving" not in result


def test_scaling(capsys: pytest.CaptureFixture[str], mini_model: Path) -> None:
    options = ["--sessions", "1", "3", "--steps", "1", "2", "--blocks", "1", "--seconds", "0"]
    result = closing(capsys, "scaling", "--model", str(mini_model), *PLAIN, *options)
    found = result["sizes"]["128"]
    assert found["sessions"]["3"]["slowest_share"] == 1.0 and found["sessions"]["1"]["ratio_to_first"] == 1.0
    assert found["steps"]["1"]["batch_fps"] is None and found["steps"]["2"]["batch_ratio"] > 0.0


@pytest.mark.long
def test_sessions(
    capsys: pytest.CaptureFixture[str], mini_model: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WARM_S", "SETTLE_S"):
        monkeypatch.setattr(sessions, name, 0.3)
    monkeypatch.setattr(sessions, "EACH", 1)
    options = ["--sessions", "1", "3", "--blocks", "1", "--seconds", "0.7", "--socket", "2"]
    result = closing(capsys, "sessions", "--model", str(mini_model), *PLAIN, *options)
    for policy in ("scheduler", "everybody"):
        found = result["owner"][policy]
        assert found["1"]["ratio_to_one"] == 1.0 and found["3"]["sessions_per_step"] >= 1.0
        assert found["3"]["frames_per_s"] > 0.0 and found["3"]["latency_p50_ms"] <= found["3"]["latency_p95_ms"]
    assert 0.0 < result["socket"]["2"]["slowest_share_of_mean"] <= 1.0
    assert [options[-1] for options in started] == ["64", "cache.enabled=false"], "many clients; every frame a full one"
    assert list(result["neighbour"]) == ["paced", "one frame under way"]
    for found in result["neighbour"].values():
        assert found["light_alone"] > 0.0 and found["light_share"] >= 0.0 and found["heavy_share"] >= 0.0


def test_building(
    capsys: pytest.CaptureFixture[str], mini_model: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "WARM_S", 0.3)
    monkeypatch.setattr(building, "QUIET_S", 0.3)
    result = closing(
        capsys, "building", "--model", str(mini_model), *PLAIN, "--clients", "2", "--seconds", "0.7", "--alone", "0.3"
    )
    for name in ("building", "warm"):
        assert result[name]["frames_per_s"] > 0.0 and result[name]["rss_mb"] > 0 and result[name]["threads"] > 0
        assert not result[name]["built_meanwhile"], "eager has nothing to build elsewhere"
    assert result["rate_ratio"] > 0.0 and [options[-1] for options in started] == ["2"]


def test_soak(
    capsys: pytest.CaptureFixture[str], mini_model: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "LEFT_S", 0.1)
    monkeypatch.setattr(soak, "SIDES", (128, 192))
    options = ["--clients", "2", "--minutes", "0.07", "--every", "0.15", "--resize", "0.5", "--serve", "--turn 60"]
    result = closing(capsys, "soak", "--model", str(mini_model), *PLAIN, *options)
    assert len(result["clients"]) == 2 and result["errors"] == {} and result["server_errors"] == []
    assert all(client["answers"] and client["changes"] for client in result["clients"])
    assert result["longest_wait_s"] == max(client["longest_wait_s"] for client in result["clients"]) > 0.0
    assert result["memory"]["peak_mib"] >= result["memory"]["warm_mib"] > 0.0
    assert min(result["threads"].values()) > 0 and [options[-2:] for options in started] == [["--turn", "60"]]


def test_random_values_are_allowed_and_reach_the_ends() -> None:
    dice = random.Random(1)
    declared = declare(FIELDS, Settings().flat())
    seen: dict[str, set[object]] = {key: set() for key in declared}
    for _ in range(200):
        for key, rule in declared.items():
            value = soak.value_of(rule, dice, ["oil painting"])
            Settings().patched({key: value})
            seen[key].add(value)
    assert {"oil painting"} < seen["prompt"] and seen["steps"] == set(range(1, 9)) and {0.0, 1.0} <= seen["strength"]
    assert seen["gate.enabled"] == {True, False} and seen["noise.mode"] == {"fixed", "walk"}
    with pytest.raises(ValueError, match="colour"):
        soak.value_of({"kind": "colour"}, dice)


def test_waits_count_from_the_answer_before_or_from_the_first_frame_after_it() -> None:
    now = 0.0
    waits = soak.Waits(lambda: now)
    now = 5.0
    waits.sent()
    now = 6.0
    waits.sent()
    now = 7.0
    waits.answered(more=True)
    assert waits.longest == 2.0
    now = 8.0
    waits.answered(more=False)
    now = 100.0
    waits.update()
    assert waits.longest == 2.0, "nothing was under way"
    waits.sent()
    now = 150.0
    waits.update()
    assert waits.longest == 50.0, "and still no answer"


async def test_works_side_by_side_end_together_with_the_first_that_fails() -> None:
    ended = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def broken() -> None:
        raise StudioError("lost", "idle")

    with pytest.raises(StudioError, match="lost"):
        await soak.side_by_side([endless(), broken()])
    await soak.side_by_side([endless()], 0.01)
    assert len(ended) == 2


def test_what_happened_between_two_moments() -> None:
    one, other = (sessions.Camera(name, Settings()) for name in "ab")
    one.answers = [(1.0, 5.0), (2.0, 7.0), (9.0, 1.0)]
    other.answers = [(2.5, 9.0)]
    block = sessions.block_between([one, other], [(0.5, 9), (1.5, 1), (2.5, 2)], 1.0, 3.0)
    assert block.counts == [2, 1] and block.latencies == [5.0, 7.0, 9.0] and block.rate == 1.5
    assert block.sessions_per_step == 1.5 and block.slowest == pytest.approx(2 / 3)


def test_slowest_share() -> None:
    assert scaling.slowest_share([2, 2]) == 1.0
    assert scaling.slowest_share([1, 3]) == 0.5
    assert scaling.slowest_share([0, 0]) == 0.0


def test_peers_make_the_same_picture(
    capsys: pytest.CaptureFixture[str], mini_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda name: None)  # whether or not it is installed here
    result = closing(capsys, "peers", "--model", str(mini_model), *PLAIN, "--blocks", "1", "--frames", "2")
    assert result["streamdiffusion"] == "not installed" and result["timestep"] == 499
    lanes = result["lanes"]
    assert set(lanes) == {"rill eager float32", "diffusers float32", "diffusers bfloat16"}
    assert lanes["rill eager float32"]["ssim_to_diffusers_float32"] > 0.999
    assert lanes["diffusers float32"]["times_faster_than_it"] > 0.0


def test_the_grid_of_streamdiffusion() -> None:
    import torch

    grid = torch.tensor([999, 499, 19])
    assert streamdiffusion_peer.grid_index(grid, 499) == 1
    with pytest.raises(ValueError):
        streamdiffusion_peer.grid_index(grid, 500)


def test_client_against_render() -> None:
    stages = {"denoise": 20.0}
    clients = [{"generated_fps": fps, "latency_ms": {"p50": 30.0, "p95": 40.0, "outside": out}, "dropped": 1, "stage_ms": stages}
               for fps, out in ((18.0, 7.0), (20.0, 9.0), (10.0, 8.0))]  # fmt: skip
    renders = [{"generated_fps": 20.0, "stage_ms": stages}] * 3
    found = live.rates(clients, renders)
    assert found["ratio_client_to_render"] == 0.9 and found["outside_model_ms"] == 8.0 and found["dropped"] == 3


APP = """
import json, sys, time
if sys.argv[1] == "serve":
    print("Rill is listening on http://127.0.0.1:1", flush=True)
    print(sys.argv[-1], flush=True)
    time.sleep(60)
print("a line before"), print(json.dumps({"generated_fps": 20.0}))
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose app.py prints what the real one would print."""
    (tmp_path / "app.py").write_text(APP)
    monkeypatch.setattr(live, "ROOT", tmp_path)
    return tmp_path


def test_the_server_is_started_watched_and_stopped(stand_in: Path) -> None:
    with live.studio(["Model x is ready: 128x128"], "token") as server:
        assert server.url == "http://127.0.0.1:1" and server.rss() > live.MIB and server.cpu_s() >= 0.0
        rounds = live.Rounds(server, [], "token", stand_in)
        assert rounds.render(Path("clip.mp4")) == {"generated_fps": 20.0}
        with pytest.raises(RuntimeError, match=r"studio\.client"):
            rounds.client(Path("clip.mp4"))  # there is no studio in that folder
    assert not server.process.is_running()


def test_a_server_that_does_not_come_up(stand_in: Path) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        live.Studio(["The model cannot be loaded: broken"], "token")
    (stand_in / "app.py").write_text("print('no such option')")
    with pytest.raises(RuntimeError, match="no such option"):
        live.Studio([], "token")


def test_the_server_starts_with_the_settings_of_render(monkeypatch: pytest.MonkeyPatch) -> None:
    """The studio opens pocket with the feature cache on, which would compare cached pictures with generated ones."""

    def studio(options: Sequence[str], token: str) -> None:
        settings = serve_options.opening_settings(app.build_parser().parse_args(["serve", *options]))
        raise RuntimeError(f"caches: {settings.cache.enabled}")

    monkeypatch.setattr(live, "studio", studio)
    with pytest.raises(RuntimeError, match="caches: False"):
        cli.main(["live", "--no-keep"])


def test_what_the_gate_saves() -> None:
    off = [{"cpu_s": 4.0, "generated": 100, "cached": 0, "skipped": 0, "frames": 100}]
    on = [{"cpu_s": 1.0, "generated": 20, "cached": 0, "skipped": 80, "frames": 100}]
    assert live.gating(off, on) == {
        "cpu_ms_per_shown_off": 40.0,
        "cpu_ms_per_shown_on": 10.0,
        "times_less_cpu": 4.0,
        "skipped_share": 0.8,
    }


def test_memory_growth_leaves_out_the_first_minute() -> None:
    mib = live.MIB
    samples = [(float(second), (50 + second if second < 60 else 200 + (second - 60) // 60) * mib) for second in range(301)]
    found = live.growth(samples, 60.0)
    assert found["first_minute_mib"] == 200.0 and found["end_mib"] == 203.0
    assert found["growth_percent"] == 1.5 and found["seconds"] == 300.0 and found["peak_mib"] == 204.0


def test_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ablation", "--size", "100"]) == 2
    assert cli.main(["scaling", "--model", "no-such-model"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["ablation", "--frames", "0"])


def test_a_result_may_be_kept_under_another_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    monkeypatch.setitem(cli.BENCHMARKS, "engine", (lambda parser: None, lambda args: {"answer": 1}, "words"))
    assert cli.main(["engine", "--keep-as", "other"]) == 0
    assert json.loads((tmp_path / "other.json").read_text())["answer"] == 1


@pytest.mark.parametrize("backend", ["eager", "openvino"])
def test_lora(capsys: pytest.CaptureFixture[str], one_chunk_model: Path, backend: str) -> None:
    options = ["--model", str(one_chunk_model), "--backend", backend, "--size", "128", "--rank", "2"]
    result = closing(capsys, "lora", *options)
    assert result["in_place"] and result["change_ms"] > 0 and result["layers"] > 0
    assert result["frame_ms"] > 0 and result["frame_with_lora_ms"] > 0
    assert ("remove_ms" in result) == (backend == "eager")
