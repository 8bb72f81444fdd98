"""Schedulers of checkpoints: EDM models against diffusers' own pipelines, and fields that a configuration lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import diffusers
import pytest
import torch
from diffusers import AutoencoderKL, EDMDPMSolverMultistepScheduler, EDMEulerScheduler, EulerDiscreteScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines import ModelError, ModelParts, Settings, StreamSpec, describe, inspect_model, load
from pipelines.checkpoints.loader import single
from tests.by_hand import encoded, pipe_of
from tests.ldm import write_single_file
from tests.miniature import save_family
from tests.streams import SIZE, decoded, frames, stream

MEAN, STD = [-1.6, 1.9, -1.4, 2.5], [8.5, 5.9, 6.5, 5.2]
SETTINGS = Settings().patched({"prompt": "ink", "steps": 2, "strength": 0.7})
EDM: dict[str, Any] = {
    "playground": EDMDPMSolverMultistepScheduler(),
    "euler": EDMEulerScheduler(sigma_schedule="exponential", sigma_max=60.0, sigma_data=0.7, rho=5.0),
    "cosxl": EDMEulerScheduler(sigma_max=120.0, sigma_data=1.0, prediction_type="v_prediction"),
    "continuous": EulerDiscreteScheduler(
        sigma_min=0.002, sigma_max=700.0, timestep_type="continuous", prediction_type="v_prediction", use_karras_sigmas=True
    ),
}


def save_edm(folder: Path, scheduler: Any, family: str = "sdxl") -> Path:
    """A miniature with this scheduler, and an autoencoder with a mean and a deviation for each channel."""
    save_family(folder, family)
    scheduler.save_pretrained(folder / "scheduler")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", type(scheduler).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    vae.register_to_config(latents_mean=MEAN, latents_std=STD, scaling_factor=0.5)
    vae.save_pretrained(folder / "vae")
    return folder


def by_diffusers(folder: Path, family: str, scheduler: Any, levels: list[float], noises: list[Tensor | None]) -> Tensor:
    """The clean latent after one step of diffusers' pipeline at each σ, in the scale of its UNet. noises: of each level, None
    for that which the last step's result implies."""
    pipe = pipe_of(folder, family)
    mean, std = (torch.tensor(value).reshape(1, 4, 1, 1) for value in (MEAN, STD))
    pixels = frames(1)[0].pixels
    assert pixels is not None
    with torch.no_grad():
        latent = encoded(pipe.vae, pixels) / pipe.vae.config.scaling_factor
        x0 = (latent - mean) * pipe.vae.config.scaling_factor / std
        implied = torch.zeros_like(x0)
        for sigma, given in zip(levels, noises, strict=True):
            # With one step every scheduler begins at sigma_max and ends at the clean latent.
            changes = {"sigma_max": sigma} | ({"sigma_schedule": "karras"} if "sigma_schedule" in scheduler.config else {})
            pipe.scheduler = type(scheduler).from_config(scheduler.config, **changes)
            pipe.scheduler.set_timesteps(1)
            assert float(pipe.scheduler.sigmas[0]) == pytest.approx(sigma, rel=1e-5)
            noise = implied if given is None else given
            start = (x0 + sigma * noise) / pipe.scheduler.init_noise_sigma
            size = {"width": SIZE, "height": SIZE}
            noisy = x0 + sigma * noise
            x0 = pipe("ink", latents=start, num_inference_steps=1, guidance_scale=1.0, output_type="latent", **size).images
            implied = (noisy - x0) / sigma
    return x0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # numpy's, of torch's arrays
@pytest.mark.parametrize("name", EDM)
@pytest.mark.parametrize("solver", ["lcm", "ddim"])
def test_an_edm_model_draws_what_diffusers_pipeline_draws(tmp_path: Path, name: str, solver: Literal["lcm", "ddim"]) -> None:
    folder = save_edm(tmp_path / name, EDM[name])
    pipeline = load(StreamSpec(str(folder), SIZE, SIZE, "eager", "float32"))
    schedule = pipeline.graphs.parts.schedule
    deviation = EDM[name].config.get("sigma_data", 1.0)
    levels = [float(deviation * schedule.sigma[t] / schedule.signal[t]) for t in schedule.timesteps(0.7, 2, solver)]
    noise = pipeline.open(SETTINGS).noise
    noises = [noise.level(0)[None], noise.level(1)[None] if solver == "lcm" else None]
    expected = by_diffusers(folder, "sdxl", EDM[name], levels, noises)
    with decoded(pipeline) as latents:
        stream(pipeline, SETTINGS.patched({"solver": solver}), frames(1))
    torch.testing.assert_close(latents[0] * deviation, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["playground", "euler", "cosxl"])
def test_levels_of_an_edm_model_are_those_of_its_scheduler(tmp_path: Path, name: str) -> None:
    peer = EDM[name]
    parts = ModelParts(describe(str(save_edm(tmp_path / name, peer))))
    peer.set_timesteps(1000)
    sigmas = peer.sigmas[:1000].flip(0).double()
    ours = peer.config.sigma_data * parts.schedule.sigma.double() / parts.schedule.signal.double()
    torch.testing.assert_close(ours, sigmas, rtol=1e-4, atol=1e-6)
    times = torch.tensor([parts.schedule.model_timestep(t) for t in range(1000)]) / 1e6
    torch.testing.assert_close(times.float(), peer.timesteps.flip(0).float(), rtol=1e-5, atol=2e-6)


@pytest.fixture
def sdxl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = save_family(tmp_path / "sdxl", "sdxl")
    monkeypatch.setitem(single.LAYOUTS, "sdxl", folder)
    return folder


def single_file(folder: Path, path: Path, added: dict[str, Tensor], **metadata: str) -> Path:
    write_single_file(folder, path, "sdxl", metadata)
    save_file({**load_file(path), **added}, path, metadata=metadata or None)
    return path


def test_a_single_file_of_playground_is_its_folder(sdxl: Path, tmp_path: Path) -> None:
    added = {"edm_mean": torch.tensor(MEAN).reshape(1, 4, 1, 1), "edm_std": torch.tensor(STD).reshape(1, 4, 1, 1)}
    file = ModelParts(describe(str(single_file(sdxl, tmp_path / "x.safetensors", added))))
    folder = ModelParts(describe(str(save_edm(tmp_path / "folder", EDM["playground"]))))
    assert file.schedule.prediction == folder.schedule.prediction == "edm"
    assert torch.equal(file.schedule.sigma, folder.schedule.sigma)
    for field in ("latents_mean", "latents_std", "scaling_factor"):
        assert file.vae.config[field] == pytest.approx(folder.vae.config[field])


def test_a_single_file_of_cosxl_states_its_range(sdxl: Path, tmp_path: Path) -> None:
    added = {"edm_vpred.sigma_max": torch.tensor(120.0), "edm_vpred.sigma_min": torch.tensor(0.002)}
    file = ModelParts(describe(str(single_file(sdxl, tmp_path / "x.safetensors", added))))
    folder = ModelParts(describe(str(save_edm(tmp_path / "folder", EDM["cosxl"]))))
    assert file.schedule.prediction == "v_prediction"
    torch.testing.assert_close(file.schedule.sigma, folder.schedule.sigma)
    assert file.fingerprints.unet != folder.fingerprints.unet


@pytest.mark.parametrize(
    ("metadata", "prediction", "last"),
    [
        ({"ss_v_parameterization": "True"}, "v_prediction", 0.06826),
        ({"ss_v_parameterization": "True", "ss_zero_terminal_snr": "True"}, "v_prediction", 1e-4),
        ({"ss_v_parameterization": "False"}, "epsilon", 0.06826),
        ({"modelspec.prediction_type": "v"}, "v_prediction", 0.06826),
        ({}, "epsilon", 0.06826),
    ],
)
def test_metadata_states_the_prediction(
    sdxl: Path, tmp_path: Path, metadata: dict[str, str], prediction: str, last: float
) -> None:
    path = single_file(sdxl, tmp_path / "x.safetensors", {}, **metadata)
    schedule = ModelParts(describe(str(path))).schedule
    assert schedule.prediction == prediction
    assert float(schedule.signal[-1]) == pytest.approx(last, rel=1e-3)


@pytest.mark.parametrize("kind", ["DDIMScheduler", "LCMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_missing_betas_are_diffusers_defaults(tmp_path: Path, kind: str) -> None:
    folder = save_family(tmp_path / kind, "sd15")
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": kind}))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "scheduler": ["diffusers", kind]}))
    theirs = pipe_of(folder, "sd15").scheduler
    ours = ModelParts(describe(str(folder))).schedule
    torch.testing.assert_close(ours.signal.double() ** 2, theirs.alphas_cumprod.double(), rtol=1e-4, atol=1e-6)
    assert type(theirs) is getattr(diffusers, kind)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"_class_name": "OwnScheduler"}, "no num_train_timesteps, and its class 'OwnScheduler'"),
        ({}, "has no num_train_timesteps, and its class"),
        ({"_class_name": "UNet2DConditionModel"}, "is no scheduler of diffusers"),
        ({"_class_name": "EDMEulerScheduler", "sigma_min": 9, "sigma_max": 3}, "sigma_min 9 is not below sigma_max 3"),
        ({"_class_name": "EDMEulerScheduler", "sigma_data": 0}, "sigma_data 0 is not a positive number"),
        ({"_class_name": "EDMEulerScheduler", "sigma_schedule": "beta"}, "sigma_schedule 'beta' is not one of"),
        ({"_class_name": "EDMEulerScheduler", "prediction_type": "sample"}, "prediction_type 'sample' of an EDM model"),
        (
            {"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous", "prediction_type": "v_prediction"},
            "sigma_min None is not a positive number",
        ),
    ],
)
def test_what_a_scheduler_cannot_say_is_named(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    folder = save_family(tmp_path / "x", "sd15")
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "scheduler": ["diffusers", config.get("_class_name", "")]}))
    assert words in (inspect_model(str(folder)).problem or "")
    with pytest.raises(ModelError, match="scheduler"):
        ModelParts(describe(str(folder)))
