"""Every pair of switches, in every backend, against eager; what is refused, and what documented combinations fall back to.

The cases cover every pair of values of any two switches. On a CPU torch.compile's code generator takes half a minute for each
pass of the miniature, so that here it stops before: what Dynamo captures (one static graph a pass) is run as it is. The
generated code is tested on the autoencoder (test_backends.py).
"""

import dataclasses
import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from benchmarks import clips, settings_doc
from pipelines import Entry, Frame, Pixels, Settings, SettingsError, StreamPipeline, StreamSpec, load
from pipelines.techniques.gate import Gate
from pipelines.values.settings import SOLVERS
from tests.streams import decoded

SIZE = 128
CLIP = clips.clip("handheld", SIZE, SIZE)
COUNT = 5
OFF: dict[str, object] = {}

SWITCHES: dict[str, list[dict[str, object]]] = {
    "stream batch": [{"stream_batch.enabled": False}, {"stream_batch.enabled": True}],
    "guidance": [{"guidance_mode": mode} for mode in ("none", "full", "self", "one-time", "adaptive", "linear")],
    "levels": [
        OFF,
        {"guidance_schedule": "linear", "omega_schedule": "cosine", "guidance_blur": 1.5},
        {"guidance_schedule": "interval", "omega_schedule": "interval", "interval_low": 0.1, "interval_high": 0.35},
    ],
    "gate": [OFF, {"gate.enabled": True, "gate.threshold": 0.9, "gate.tile_threshold": 0.2}],
    "cache": [
        OFF,
        {"cache.enabled": True, "cache.interval": 3, "cache.cascade": True},
        {"cache.enabled": True, "cache.policy": "adaptive", "cache.drift": 0.03, "cache.branch": 0},
        {"cache.enabled": True, "cache.reuse": "steps", "cache.branch": 0},
        {"cache.enabled": True, "cache.reuse": "encoder", "cache.interval": 2},
    ],
    "noise": [OFF, {"noise.mode": "walk"}, {"noise.motion": 0.7}],
    "cads": [OFF, {"cads.enabled": True}],
    "warm start": [OFF, {"noise.warm_start": 0.3}],
    "consistency": [OFF, {"consistency.enabled": True}],
    "strength map": [{"strength_map.mode": mode} for mode in ("off", "motion", "mask")],
    "omega": [OFF, {"omega": 0.8}, {"omega": 1.2, "omega_map.mode": "motion"}, {"omega": 0.7, "omega_map.mode": "mask"}],
    "words": [OFF, {"prompt_b": "fox", "blend": 0.4, "blend_mode": "spherical"}, {"travel": 0.1, "negative": "dull"}],
    "steps": [{"steps": steps} for steps in (1, 2, 3, 4)],
    "solver": [{"solver": solver} for solver in SOLVERS],
}

Case = tuple[int, ...]
"""One value's index for each switch."""

Answer = tuple[int, str, Tensor | None]
"""Frame id, verdict, and the latent [C, h, w] of the picture: what a small autoencoder makes of it hides too much."""


def pairs(case: Case) -> set[tuple[int, int, int, int]]:
    return {(i, case[i], j, case[j]) for i, j in itertools.combinations(range(len(case)), 2)}


def covering(seed: int = 0) -> list[Case]:
    """Cases in which every pair of values of two switches occurs: of 200 random ones that hold a missing pair, the one that
    covers most is taken, until none is missing."""
    sizes = [len(values) for values in SWITCHES.values()]
    missing = {pair for case in itertools.combinations(range(len(sizes)), 2) for pair in _values(sizes, *case)}
    dice, cases = random.Random(seed), []
    while missing:
        i, a, j, b = min(missing)
        tried = [[dice.randrange(size) for size in sizes] for _ in range(200)]
        for case in tried:
            case[i], case[j] = a, b
        best = max(map(tuple, tried), key=lambda case: len(pairs(case) & missing))
        cases.append(best)
        missing -= pairs(best)
    return cases


def _values(sizes: list[int], i: int, j: int) -> list[tuple[int, int, int, int]]:
    return [(i, a, j, b) for a in range(sizes[i]) for b in range(sizes[j])]


CASES = covering()

TOLERANCE = {"openvino": 6e-3, "compiled": 2e-3}
"""Of the largest number of a latent. OpenVINO's graphs hold their weights in half precision, also where none are kept on disk."""


def patch_of(case: Case) -> dict[str, object]:
    patch: dict[str, object] = {"prompt": "ink", "guidance": 1.4, "strength": 0.4, "seed": 3}
    for values, index in zip(SWITCHES.values(), case, strict=True):
        patch |= values[index]
    return patch


def pipeline_of(model: Path, backend: str, cache: Path | None = None) -> StreamPipeline:
    made = load(StreamSpec(str(model), SIZE, SIZE, backend, "float32"), cache)
    for values in SWITCHES["cache"]:
        made.prepare(Settings().patched(values))
    return made


@pytest.fixture(scope="module")
def eager(one_chunk_model: Path) -> StreamPipeline:
    return pipeline_of(one_chunk_model, "eager")


@pytest.fixture(scope="module")
def openvino(one_chunk_model: Path, graph_cache: Path) -> StreamPipeline:
    return pipeline_of(one_chunk_model, "openvino", graph_cache)


@pytest.fixture(scope="module")
def compiled(one_chunk_model: Path) -> StreamPipeline:
    original = nn.Module.compile
    with pytest.MonkeyPatch.context() as patch:

        def captured(module: nn.Module, dynamic: bool) -> None:
            original(module, backend="eager", fullgraph=True, dynamic=dynamic)

        patch.setattr(nn.Module, "compile", captured)
        return pipeline_of(one_chunk_model, "compile")


def stream(pipeline: StreamPipeline, patch: dict[str, object]) -> list[Answer]:
    """Frames with a change of prompt on the way, then the drained end."""
    settings = Settings().patched(patch)
    pipeline.check(settings)
    state, gate = pipeline.open(settings), Gate(settings.seed)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:, SIZE // 3 :] = 255
    state.set_mask(mask)
    answers: list[Answer] = []
    for index in [*range(COUNT), *[None] * 4]:
        if index == COUNT // 2:
            settings = settings.patched({"prompt": "a red fox"})
        frame = None if index is None else Frame(index, index / 25, CLIP[2 * index])
        if frame is not None and gate.decide(frame.pixels, settings.gate, settings.version).skip:
            answers.append((frame.id, "skipped", None))
            continue
        with decoded(pipeline) as latents:
            (answer,) = pipeline.step([Entry(state, frame, settings)])
        answers.append((answer.frame_id, answer.verdict, None if answer.pixels is None else latents[0][0]))
    assert state.in_flight == 0
    return answers


@pytest.fixture(scope="module")
def expected(eager: StreamPipeline) -> dict[Case, list[Answer]]:
    return {case: stream(eager, patch_of(case)) for case in CASES}


def test_the_cases_hold_every_pair() -> None:
    sizes = [len(values) for values in SWITCHES.values()]
    wanted = {pair for i, j in itertools.combinations(range(len(sizes)), 2) for pair in _values(sizes, i, j)}
    assert set().union(*map(pairs, CASES)) == wanted
    assert len(CASES) < 45


@pytest.mark.long
@pytest.mark.parametrize("backend", ["openvino", "compiled"])
def test_every_pair_of_switches_draws_what_eager_draws(
    backend: str, expected: dict[Case, list[Answer]], request: pytest.FixtureRequest
) -> None:
    pipeline = request.getfixturevalue(backend)
    for case, answers in expected.items():
        patch = patch_of(case)
        got = stream(pipeline, patch)
        assert [answer[:2] for answer in got] == [answer[:2] for answer in answers], patch
        for (_, _, latent), (_, _, reference) in zip(got, answers, strict=True):
            if latent is not None and reference is not None:
                assert (latent - reference).abs().max() < TOLERANCE[backend] * reference.abs().max(), patch


def test_every_case_answers_every_frame_that_passed_the_gate(
    expected: dict[Case, list[Answer]],
) -> None:
    verdicts: set[str] = set()
    for case, answers in expected.items():
        shown = [number for number, _, latent in answers if latent is not None]
        skipped = [number for number, verdict, _ in answers if verdict == "skipped"]
        assert shown == sorted(set(shown)) and sorted(shown + skipped) == list(range(COUNT)), patch_of(case)
        verdicts |= {verdict for _, verdict, _ in answers}
    assert verdicts == {"generated", "cached", "skipped", "warming"}


REFUSED = {
    "steps": [{"steps": 5}],
    "steps (trained)": [{"steps": 2}],
    "solver (shifted)": [{"solver": "ddim"}, {"solver": "dpmpp-2m", "steps": 3}],
    "cache.branch": [{"cache.branch": 4}, {"cache.enabled": True, "cache.branch": 11}],
}


def test_what_is_refused_is_refused_by_name(eager: StreamPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, patches in REFUSED.items():
        if "trained" in name:
            monkeypatch.setattr(eager, "schedule", dataclasses.replace(eager.schedule, trained=(999,)))
        if "shifted" in name:
            monkeypatch.setattr(eager, "schedule", dataclasses.replace(eager.schedule, shift=0.5))
        for patch in patches:
            with pytest.raises(SettingsError) as caught:
                eager.check(Settings().patched(patch))
            assert caught.value.field == name.split()[0]
        monkeypatch.undo()


def test_the_documented_list_of_refusals_is_this_one() -> None:
    table = settings_doc.document().split("## Refused")[1].split("##")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) <= 5 and sorted(rows) == sorted(f"`{name.split()[0]}`" for name in REFUSED)


PLAIN: dict[str, object] = {"prompt": "ink", "steps": 2, "strength": 0.4}


@pytest.mark.parametrize(
    ("patch", "same_as"),
    [
        ({"blend": 0.7}, OFF),
        ({"negative": "dull"}, OFF),
        ({"guidance_mode": "full", "guidance": 1.0}, OFF),
        ({"strength_map.mode": "mask"}, OFF),
        ({"omega": 0.8, "omega_map.mode": "mask"}, {"omega": 0.8}),
        ({"omega_map.mode": "motion"}, OFF),
        ({"cads.enabled": True}, OFF),
        ({"guidance_schedule": "linear", "omega_schedule": "interval", "guidance_blur": 2.0}, OFF),
        ({"guidance_mode": "full", "guidance_schedule": "interval", "interval_low": 0.9}, OFF),
        ({"omega": 0.7, "omega_schedule": "interval", "interval_low": 0.5, "interval_high": 0.2}, OFF),
        ({"steps": 1, "solver": "dpmpp-2m"}, {"steps": 1}),
        ({"steps": 1, "cache.enabled": True, "cache.reuse": "encoder"}, {"steps": 1}),
        ({"steps": 1, "cache.enabled": True, "cache.reuse": "steps"}, {"steps": 1}),
    ],
)
def test_what_has_nothing_to_act_on_acts_like_off(
    eager: StreamPipeline, patch: dict[str, object], same_as: dict[str, object]
) -> None:
    shown = [pictures(eager, Settings().patched({**PLAIN, **change})) for change in (patch, same_as)]
    assert len(shown[0]) == COUNT and all(np.array_equal(a, b) for a, b in zip(*shown, strict=True))


@pytest.mark.parametrize(
    ("patch", "same_as"),
    [
        ({"guidance_mode": "self"}, {"guidance_mode": "one-time"}),
        ({"strength": 0.1}, {"strength": 1.0}),
        ({"strength_map.mode": "motion"}, OFF),
        ({"noise.warm_start": 0.5}, OFF),
    ],
)
def test_from_a_prompt_alone_there_is_no_source_to_act_on(
    eager: StreamPipeline, patch: dict[str, object], same_as: dict[str, object]
) -> None:
    base = {**PLAIN, "guidance": 1.3, "strength": 1.0}
    shown = [pictures(eager, Settings().patched({**base, **change}), blank=True) for change in (patch, same_as)]
    assert len(shown[0]) == COUNT and all(np.array_equal(a, b) for a, b in zip(*shown, strict=True))


def pictures(pipeline: StreamPipeline, settings: Settings, blank: bool = False) -> list[Pixels]:
    """Every picture of a session without a painted mask."""
    state = pipeline.open(settings)
    frames = [Frame(index, index / 25, None if blank else CLIP[3 * index]) for index in range(COUNT)]
    answers = [pipeline.step([Entry(state, frame, settings)])[0] for frame in frames]
    while state.in_flight:
        answers += pipeline.step([Entry(state, None, settings)])
    return [answer.pixels.numpy() for answer in answers if answer.pixels is not None]
