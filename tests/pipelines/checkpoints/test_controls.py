"""Several ControlNets, ControlNet Unions and T2I-Adapters in the stream, against diffusers' own pipelines with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    ControlNetModel,
    ControlNetUnionModel,
    DDIMScheduler,
    MultiAdapter,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLAdapterPipeline,
    StableDiffusionXLControlNetUnionPipeline,
    T2IAdapter,
)
from torch import Tensor

from pipelines import Entry, Frame, ModelParts, Settings, describe, inspect_model
from pipelines.techniques.hints import hint
from tests.by_hand import encoded, pipe_of
from tests.miniature import ONE_CHUNK, SHARED, UNETS, fewer_layers, save_control, save_family
from tests.pipelines.engine.test_beside import opened, ours
from tests.streams import PICTURES, SIZE

BASE = Settings().patched({"prompt": "ink", "strength": 1.0, "guidance": 2.0, "control.scale": 0.8, "control.map": "soft-edge"})
FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("controls")
    return {family: save_family(root / family, family) for family in ("sd15", "sdxl")}


def save_union(folder: Path, kinds: int = 6, seed: int = 8) -> Path:
    """A ControlNet Union for the miniature SDXL, with random closing layers."""
    torch.manual_seed(seed)
    config = {name: value for name, value in UNETS["sdxl"].items() if name in SHARED}
    sizes = {
        "num_control_type": kinds,
        "num_trans_channel": 32,
        "num_trans_head": 4,
        "num_proj_channel": 32,
        "num_trans_layer": 2,
    }
    union = ControlNetUnionModel(**config, conditioning_embedding_out_channels=(8, 8, 8, 8), **sizes)
    for convolution in (union.controlnet_cond_embedding.conv_out, *union.controlnet_down_blocks, union.controlnet_mid_block):
        torch.nn.init.normal_(convolution.weight, std=0.3)
    torch.nn.init.normal_(union.spatial_ch_projs.weight, std=0.3)
    union.save_pretrained(folder)
    return folder


ADAPTERS: dict[str, dict[str, Any]] = {
    "full": {"in_channels": 3, "channels": [32, 32], "num_res_blocks": 2},
    "grey": {"in_channels": 1, "channels": [32, 32], "num_res_blocks": 1},
    "light": {"in_channels": 3, "channels": [32], "num_res_blocks": 2, "adapter_type": "light_adapter"},
    "xl": {"in_channels": 3, "channels": [32, 32], "adapter_type": "full_adapter_xl", "downscale_factor": 16},
}


def save_t2i(folder: Path, kind: str, seed: int = 9) -> Path:
    torch.manual_seed(seed)
    T2IAdapter(**ADAPTERS[kind]).save_pretrained(folder)
    return folder


def theirs(pipe: Any, settings: Settings, noise: Tensor, **options: Any) -> Tensor:
    """The latent that a pipeline of diffusers makes in one step from the same start."""
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(
        pipe.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True, clip_sample=False
    )
    bar = pipe.scheduler.alphas_cumprod[999]
    with torch.no_grad():
        start = bar**0.5 * encoded(pipe.vae, PICTURES[0]) + (1 - bar) ** 0.5 * noise
    scale = settings.guidance if settings.guidance_mode == "full" else 1.0
    options |= {"num_inference_steps": 1, "guidance_scale": scale, "output_type": "latent", "height": SIZE, "width": SIZE}
    made: Tensor = pipe(settings.prompt, latents=start, **options).images
    return made


def drawn(*kinds: str, channels: int = 3) -> list[Tensor]:
    return [torch.from_numpy(hint(PICTURES[0], kind))[None, :channels] for kind in kinds]


def compare(name: str, pipe: Any, settings: Settings, **options: Any) -> None:
    """Guidance off and on."""
    pipeline = opened(name)
    for guidance in ("none", "full"):
        wish = settings.patched({"guidance_mode": guidance})
        noise, got = ours(pipeline, wish)
        torch.testing.assert_close(got, theirs(pipe, wish, noise, **options), rtol=1e-4, atol=1e-4)
        assert (got - ours(pipeline, wish.patched({"control.scale": 0.0}))[1]).abs().max() > 1e-2
    check_cache(pipeline, settings)


def check_cache(pipeline: Any, settings: Settings) -> None:
    """Where nothing moves, a short pass gives what the full one gave, at every re-entry point."""
    for branch in range(0, pipeline.branches, 2):
        patch = {"cache.enabled": True, "cache.interval": 3, "cache.branch": branch, "cache.cascade": branch > 0}
        wish = settings.patched({**patch, "strength": 0.5})
        pipeline.prepare(wish)
        state = pipeline.open(wish)
        latents = []
        for number in range(3):
            pipeline.step([Entry(state, Frame(number, number / 25, PICTURES[0]), wish)])
            latents.append(state.previous_x0)
        for latent in latents[1:]:
            torch.testing.assert_close(latent, latents[0], rtol=1e-4, atol=1e-4)


def test_several_controlnets_are_diffusers_sum(models: dict[str, Path], tmp_path: Path) -> None:
    folders = [save_control(tmp_path / str(seed), "sd15", seed) for seed in (5, 6, 7)]
    nets = [ControlNetModel.from_pretrained(folder) for folder in folders]
    pipe = StableDiffusionControlNetPipeline(**pipe_of(models["sd15"], "sd15").components, controlnet=nets)
    name = f"{models['sd15']}+control={folders[0]}:canny+control={folders[1]}:0.5+control={folders[2]}:depth-like:-0.25"
    assert inspect_model(name).problem is None
    images, scales = drawn("canny", "soft-edge", "depth-like"), [0.8, 0.4, -0.2]
    compare(name, pipe, BASE, image=images, controlnet_conditioning_scale=scales)


@pytest.mark.parametrize(("kind", "number", "kinds"), [("canny", 3, 6), ("soft-edge", 2, 8), ("depth-like", 1, 6)])
def test_a_union_is_given_the_kind_of_its_map(
    models: dict[str, Path], tmp_path: Path, kind: str, number: int, kinds: int
) -> None:
    folder = save_union(tmp_path / "union", kinds)
    pipe = StableDiffusionXLControlNetUnionPipeline(
        **pipe_of(models["sdxl"], "sdxl").components, controlnet=ControlNetUnionModel.from_pretrained(folder)
    )
    settings = BASE.patched({"control.map": kind})
    given: dict[str, Any] = {"control_image": drawn(kind), "control_mode": [number], "controlnet_conditioning_scale": 0.8}
    compare(f"{models['sdxl']}+control={folder}", pipe, settings, **given)


def test_a_union_may_be_one_file_or_have_its_early_name(models: dict[str, Path], tmp_path: Path) -> None:
    folder = save_union(tmp_path / "union", 8)
    pipe_of_it = ControlNetUnionModel.from_pretrained(folder).state_dict()
    config = json.loads((folder / "config.json").read_text())
    del config["num_control_type"]
    (folder / "config.json").write_text(json.dumps({**config, "_class_name": "ControlNetModel_Union"}))
    for place in (folder, folder / FILE):
        name = f"{models['sdxl']}+control={place}"
        assert inspect_model(name).problem is None
        for tensor, value in ModelParts(describe(name)).controls[0].state_dict().items():
            assert torch.equal(value, pipe_of_it[tensor])


def adapted(models: dict[str, Path], family: str, adapter: Any) -> Any:
    cls = StableDiffusionXLAdapterPipeline if family == "sdxl" else StableDiffusionAdapterPipeline
    components = pipe_of(models[family], family).components
    taken = {name: part for name, part in components.items() if family == "sdxl" or name != "image_encoder"}
    return cls(**taken, adapter=adapter)


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("kind", ADAPTERS)
def test_t2i_adapters_are_diffusers_own(models: dict[str, Path], tmp_path: Path, kind: str, as_file: bool) -> None:
    family, folder = "sdxl" if kind == "xl" else "sd15", save_t2i(tmp_path / kind, kind)
    name = f"{models[family]}+control={folder / FILE if as_file else folder}"
    assert inspect_model(name).problem is None
    if as_file:
        assert dict(ModelParts(describe(name)).control_files[0].config).items() >= ADAPTERS[kind].items()
        return
    image = drawn("soft-edge", channels=ADAPTERS[kind]["in_channels"])[0]
    pipe = adapted(models, family, T2IAdapter.from_pretrained(folder))
    compare(name, pipe, BASE, image=image, adapter_conditioning_scale=0.8)


def test_several_t2i_adapters_are_diffusers_sum(models: dict[str, Path], tmp_path: Path) -> None:
    folders = [save_t2i(tmp_path / str(seed), "full", seed) for seed in (1, 2)]
    pipe = adapted(models, "sd15", MultiAdapter([T2IAdapter.from_pretrained(folder) for folder in folders]))
    images: Sequence[Tensor] = drawn("canny", "depth-like")
    name = f"{models['sd15']}+control={folders[0]}:canny+control={folders[1]}:depth-like:0.5"
    compare(name, pipe, BASE, image=images, adapter_conditioning_scale=[0.8, 0.4])


def test_what_does_not_fit_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    control, adapter, large = (
        save_control(tmp_path / "c", "sd15"),
        save_t2i(tmp_path / "a", "full"),
        save_t2i(tmp_path / "x", "xl"),
    )
    both = inspect_model(f"{models['sd15']}+control={control}:canny+control={adapter}").problem or ""
    assert "c and a: a T2I-Adapter beside a ControlNet is not supported; use several of one kind" in both
    assert "x: is for another model: its features are" in (inspect_model(f"{models['sd15']}+control={large}").problem or "")
    assert "union: is for another model: cross_attention_dim" in (
        inspect_model(f"{models['sd15']}+control={save_union(tmp_path / 'union')}").problem or ""
    )


@pytest.mark.long
@pytest.mark.parametrize("kind", ["several", "union", "adapter"])
def test_static_graphs_agree_with_eager(tmp_path: Path, graph_cache: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    if kind == "adapter":  # its features are of two levels
        monkeypatch.setitem(UNETS, "sd15", {**UNETS["sd15"], "layers_per_block": 1})
    else:
        fewer_layers(monkeypatch, "sd15", "sdxl")
    family = "sdxl" if kind == "union" else "sd15"
    name = str(save_family(tmp_path / "model", family, kl=False, tokens=ONE_CHUNK))
    if kind == "several":
        controls = [save_control(tmp_path / str(seed), "sd15", seed) for seed in (5, 6)]
        name += f"+control={controls[0]}:canny+control={controls[1]}"
    elif kind == "union":
        name += f"+control={save_union(tmp_path / 'union')}"
    else:
        name += f"+control={save_t2i(tmp_path / 'a', 'full')}"
    got, expected = ours(opened(name, "openvino", graph_cache), BASE)[1], ours(opened(name), BASE)[1]
    assert (got - expected).abs().max() < 2e-3 * expected.abs().max()
