"""Solvers in the engine, on a miniature network: against diffusers' own schedulers, and against live changes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from pipelines import Entry, Frame, Settings, StreamPipeline, StreamSpec, load
from tests.miniature import BETAS, save_miniature
from tests.streams import PICTURES, SIZE, decoded

PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow")
HALF = {"strength": 499 / 999, "prompt": "ink", "seed": 3}
"""From the middle of the schedule: where diffusers' trailing timesteps of twice as many steps pass."""


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StreamPipeline]:
    return {kind: made(tmp_path_factory.mktemp(kind), kind) for kind in PREDICTIONS}


def made(folder: Path, kind: str) -> StreamPipeline:
    """A miniature with this prediction type, with the noise schedule of Stable Diffusion or as a flow."""
    save_miniature(folder)
    name = "FlowMatchLCMScheduler" if kind == "flow" else "LCMScheduler"
    config = {"_class_name": name, "num_train_timesteps": 1000, **({} if kind == "flow" else {**BETAS, "prediction_type": kind})}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "scheduler": ["diffusers", name]}))
    return load(StreamSpec(str(folder), SIZE, SIZE, "eager", "float32"))


def latents(pipeline: StreamPipeline, settings: Settings, frames: int = 2, later: Settings | None = None) -> list[Tensor]:
    """The latents [C, h, w] of the pictures of a session; `later` are its settings after the last frame."""
    pipeline.prepare(settings)
    state = pipeline.open(settings)
    with decoded(pipeline) as seen:
        for index in range(frames):
            pipeline.step([Entry(state, Frame(index, index / 25, PICTURES[index]), settings)])
        while state.in_flight:
            pipeline.step([Entry(state, None, later or settings)])
    return [row for batch in seen for row in batch]


def peer(kind: str, solver: str, steps: int) -> Any:
    """diffusers' scheduler, to be entered in the middle."""
    if kind == "flow" and solver == "ddim":
        scheduler: Any = FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(sigmas=[(steps - k) / steps / 2 for k in range(steps)])
        return scheduler
    if kind == "flow":
        scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
        scheduler.set_timesteps(2 * steps)
        scheduler.sigmas = torch.tensor([(2 * steps - k) / steps / 2 for k in range(2 * steps + 1)])
    else:
        cls, given = (DDIMScheduler, {"clip_sample": False}) if solver == "ddim" else (DPMSolverMultistepScheduler, {})
        scheduler = cls(**BETAS, prediction_type=kind, timestep_spacing="trailing", **given)
        scheduler.set_timesteps(2 * steps)
    if solver != "ddim":
        scheduler.set_begin_index(steps)
    return scheduler


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of NumPy 2, in diffusers' own code
@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("solver", ["ddim", "dpmpp-2m"])
@pytest.mark.parametrize("kind", PREDICTIONS)
def test_frames_end_where_diffusers_own_scheduler_ends(
    pipelines: dict[str, StreamPipeline], kind: str, solver: str, steps: int
) -> None:
    pipeline = pipelines[kind]
    settings = Settings().patched({**HALF, "steps": steps, "solver": solver})
    parts, plan = pipeline.graphs.parts, pipeline.schedule
    timesteps = plan.timesteps(settings.strength, steps, plan.resolved(solver))
    text, noise = parts.encode_prompt("ink")[0][None], pipeline.open(settings).noise.level(0)
    first = int(kind == "flow")

    def network(x: Tensor, t: int) -> Tensor:
        output: Tensor = parts.unet(x, t + first, encoder_hidden_states=text).sample
        return output

    spec = settings.patched({"stream_batch.enabled": False})
    with torch.no_grad():
        for index, (batched, alone) in enumerate(zip(latents(pipeline, settings), latents(pipeline, spec), strict=True)):
            clean = parts.vae.encode(torch.from_numpy(PICTURES[index]).permute(2, 0, 1)[None] / 127.5 - 1).latents
            x = plan.signal[timesteps[0]] * clean + plan.sigma[timesteps[0]] * noise
            scheduler = peer(kind, solver, steps)
            for t, theirs in zip(timesteps, scheduler.timesteps[-steps:], strict=True):
                x = scheduler.step(network(x, t), theirs, x).prev_sample
            for found in (batched, alone):
                assert (found - x[0]).abs().max() < 1e-4 * x.abs().max()


def test_solvers_differ_beyond_one_step_and_only_there(pipelines: dict[str, StreamPipeline]) -> None:
    for steps in (1, 3):
        found = [
            latents(pipelines["epsilon"], Settings().patched({**HALF, "steps": steps, "solver": solver}), 1)[0]
            for solver in ("lcm", "ddim", "dpmpp-2m")
        ]
        equal = [torch.equal(one, other) for one, other in ((found[0], found[1]), (found[1], found[2]), (found[0], found[2]))]
        assert equal == [steps == 1] * 3


def test_a_live_change_of_solver_is_for_the_frames_that_come(pipelines: dict[str, StreamPipeline]) -> None:
    """Frames under way end with the solver and the timesteps that they began with."""
    pipeline = pipelines["epsilon"]
    for before, after in (("lcm", "dpmpp-2m"), ("dpmpp-2m", "lcm"), ("ddim", "dpmpp-2m")):
        settings = Settings().patched({**HALF, "steps": 4, "solver": before})
        changed = settings.patched({"solver": after, "steps": 2})
        for one, other in zip(latents(pipeline, settings, 3), latents(pipeline, settings, 3, changed), strict=True):
            assert torch.equal(one, other)
        state = pipeline.open(settings)
        with decoded(pipeline) as seen:
            for index, given in enumerate((settings, changed, changed)):
                pipeline.step([Entry(state, Frame(index, index / 25, PICTURES[0]), given)])
            while state.in_flight:
                pipeline.step([Entry(state, None, changed)])
        newest = latents(pipeline, changed, 1)[0]  # it overtakes the older one
        torch.testing.assert_close(seen[0][0], newest, rtol=1e-4, atol=1e-5)


def test_sessions_with_different_solvers_share_calls_and_get_what_they_get_alone(pipelines: dict[str, StreamPipeline]) -> None:
    pipeline = pipelines["v_prediction"]
    given = [Settings().patched({**HALF, "steps": 3, "solver": solver}) for solver in ("lcm", "ddim", "dpmpp-2m")]
    given.append(given[2].patched({"steps": 4, "guidance_mode": "self", "guidance": 1.5}))
    alone = [latents(pipeline, settings, 1)[0] for settings in given]
    states, together = [pipeline.open(settings) for settings in given], []
    with decoded(pipeline) as seen:
        pipeline.step([Entry(state, Frame(0, 0.0, PICTURES[0]), one) for state, one in zip(states, given, strict=True)])
        while any(state.in_flight for state in states):
            pipeline.step([Entry(state, None, one) for state, one in zip(states, given, strict=True)])
    together = [row for batch in seen for row in batch]
    assert len(together) == len(alone)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("solver", ["ddim", "dpmpp-2m"])
def test_without_new_noise_a_black_map_gives_the_source_back_and_a_white_one_the_picture(
    pipelines: dict[str, StreamPipeline], solver: str
) -> None:
    pipeline = pipelines["epsilon"]
    settings = Settings().patched({**HALF, "steps": 3, "solver": solver, "strength_map.mode": "mask"})
    plain, state, shown = latents(pipeline, settings, 1)[0], pipeline.open(settings), []
    clean = pipeline.graphs.parts.vae.encode(torch.from_numpy(PICTURES[0]).permute(2, 0, 1)[None] / 127.5 - 1).latents[0]
    mask = torch.zeros(SIZE, SIZE, dtype=torch.uint8).numpy()
    mask[:, SIZE // 2 :] = 255
    for painted in (mask * 0 + 255, mask):
        state = pipeline.open(settings)
        state.set_mask(painted)
        with decoded(pipeline) as seen:
            pipeline.step([Entry(state, Frame(0, 0.0, PICTURES[0]), settings)])
            while state.in_flight:
                pipeline.step([Entry(state, None, settings)])
        shown.append(seen[0][0])
    torch.testing.assert_close(shown[0], plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shown[1][..., : SIZE // 16], clean[..., : SIZE // 16], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(shown[1][..., SIZE // 16 :], clean[..., SIZE // 16 :], atol=1e-2)


def test_an_encoder_cache_is_off_and_said_so_where_the_network_predicts_the_picture(
    pipelines: dict[str, StreamPipeline],
) -> None:
    settings = Settings().patched({**HALF, "steps": 3, "cache.enabled": True, "cache.reuse": "encoder"})
    for kind, off in (("sample", True), ("epsilon", False)):
        plain, cached = (latents(pipelines[kind], one, 1)[0] for one in (settings.patched({"cache.enabled": False}), settings))
        assert torch.equal(plain, cached) == off
        listed = pipelines[kind].understood(settings).listed()
        assert [entry["setting"] for entry in listed.get("idle", [])] == ["cache.reuse"] * off
