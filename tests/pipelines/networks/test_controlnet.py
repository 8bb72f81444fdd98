"""ControlNet in the stream against diffusers' own: residuals, whole frames, and every acceleration beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from pipelines import Entry, Frame, ModelError, ModelParts, Pixels, Settings, StreamPipeline, StreamSpec, describe, load
from pipelines.graphs.keys import GraphKey
from pipelines.networks.controlnet import ControlPass
from pipelines.networks.modulation import ModulationPass
from pipelines.networks.unet import DecoderPass, FullPass, ShallowPass
from pipelines.techniques.hints import hint
from tests.by_hand import drawn, pipe_of, rows
from tests.miniature import POOLED, UNETS, save_control, save_family
from tests.streams import PICTURES, SIZE, alike, close, frames, pictures, reference, shown, stream

FAMILIES = ("sd15", "sdxl")
BASE = Settings().patched({"prompt": "ink", "strength": 0.6, "control.scale": 0.8})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Family → (checkpoint, ControlNet)."""
    root = tmp_path_factory.mktemp("control")
    return {name: (save_family(root / name, name), save_control(root / f"{name}-control", name)) for name in FAMILIES}


@pytest.fixture(scope="module")
def pipelines(folders: dict[str, tuple[Path, Path]]) -> dict[str, StreamPipeline]:
    return {name: load(spec(*pair)) for name, pair in folders.items()}


def spec(model: Path, control: Path | None) -> StreamSpec:
    name = str(model) if control is None else f"{model}+control={control}"
    return StreamSpec(name, SIZE, SIZE, "eager", "float32")


@dataclass(frozen=True)
class Case:
    """A ControlNet of diffusers and two rows of what it takes."""

    control: ControlNetModel
    x: Tensor
    t: Tensor
    emb: Tensor
    drawn: Tensor
    scale: Tensor
    added: tuple[Tensor, ...]

    @property
    def taken(self) -> tuple[Tensor, ...]:
        """As ControlPass takes it."""
        return self.x, self.t, self.emb, self.drawn, self.scale, *self.added

    @property
    def extra(self) -> dict[str, Any]:
        """The added conditions as diffusers takes them."""
        return {"added_cond_kwargs": dict(zip(("text_embeds", "time_ids"), self.added, strict=True))} if self.added else {}


def case(folder: Path, family: str) -> Case:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    added = (draw(2, POOLED), torch.full((2, 6), 128.0)) if family == "sdxl" else ()
    return Case(
        ControlNetModel.from_pretrained(folder, local_files_only=True),
        draw(2, 4, 16, 16),
        torch.tensor([999, 20]),
        draw(2, 8, UNETS[family]["cross_attention_dim"]),
        torch.rand(2, 3, 128, 128, generator=generator),
        torch.tensor([0.5, 1.5]),
        added,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_residuals_are_diffusers_own(folders: dict[str, tuple[Path, Path]], family: str) -> None:
    given = case(folders[family][1], family)
    with torch.no_grad():
        down, mid = given.control(given.x, given.t, given.emb, given.drawn, return_dict=False, **given.extra)
        expected = [given.scale[:, None, None, None] * value for value in (*down, mid)]
        got = ControlPass(given.control)(*given.taken)
        assert len(got) == len(expected) == 7
        for mine, theirs in zip(got, expected, strict=True):
            torch.testing.assert_close(mine, theirs)
        for count in range(1, 7):
            part = ControlPass(given.control, count)
            assert len(part.down) == count - 1
            for mine, theirs in zip(part(*given.taken), expected[:count], strict=True):
                torch.testing.assert_close(mine, theirs)


def by_hand(folder: Path, control_folder: Path, family: str, settings: Settings, frame: Frame) -> Pixels:
    """The ControlNet's residuals in the UNet's own arguments."""
    assert frame.pixels is not None
    pipe = pipe_of(folder, family)
    control = ControlNetModel.from_pretrained(control_folder, local_files_only=True)
    texts = rows(pipe, settings.prompt, SIZE)
    edges = torch.from_numpy(hint(frame.pixels, settings.control.map))[None]

    def network(x: Tensor, t: int, row: int) -> Tensor:
        text, added = texts[row]
        extra = {"added_cond_kwargs": added}
        down, mid = control(x, t, text, edges, conditioning_scale=settings.control.scale, return_dict=False, **extra)
        steered = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        return pipe.unet(x, t, encoder_hidden_states=text, **steered, **extra).sample

    return drawn(pipe, network, settings, frame.pixels, load(spec(folder, None)).open(settings).noise)


@pytest.mark.parametrize("guidance", ["none", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_equals_diffusers_own_parts(
    folders: dict[str, tuple[Path, Path]], pipelines: dict[str, StreamPipeline], family: str, guidance: str
) -> None:
    settings = BASE.patched({"steps": 2, "guidance_mode": guidance, "guidance": 2.0, "control.map": "soft-edge"})
    source = frames(3)
    expected = by_hand(*folders[family], family, settings, source[1])
    for batched in (True, False):
        got = pictures(stream(pipelines[family], settings.patched({"stream_batch.enabled": batched}), source))
        assert close(got[1], expected)
    without = pictures(stream(pipelines[family], settings.patched({"control.scale": 0.0}), source))
    assert not close(without[1], expected, 5)


@pytest.mark.parametrize("family", FAMILIES)
def test_scale_nought_is_the_model_without_a_controlnet(
    folders: dict[str, tuple[Path, Path]], pipelines: dict[str, StreamPipeline], family: str
) -> None:
    plain = load(spec(folders[family][0], None))
    off = BASE.patched({"control.scale": 0.0, "steps": 2})
    expected = stream(plain, off, frames(3))
    assert alike(stream(pipelines[family], off, frames(3)), expected, 0)
    without = stream(plain, off.patched({"control.scale": 1.0}), frames(3))
    assert alike(without, expected, 0), "without a ControlNet the scale has no effect"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_short_passes_equal_the_full_one_from_what_it_kept(folders: dict[str, tuple[Path, Path]], family: str) -> None:
    unet, given = ModelParts(describe(str(folders[family][0]))).unet, case(folders[family][1], family)
    x, t, emb = given.x, given.t, given.emb
    with torch.no_grad():
        *down, mid = residuals = ControlPass(given.control)(*given.taken)
        steered = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        expected = unet(x, t, encoder_hidden_states=emb, **steered, **given.extra).sample
        (modulation,) = ModulationPass(unet)(t, emb, *given.added)
        for branch in range(6):
            out, deep = FullPass(unet, branch)(x, modulation, emb, *residuals)
            torch.testing.assert_close(out, expected)
            few = ControlPass(given.control, branch + 1)(*given.taken)
            (short,) = ShallowPass(unet, branch)(x, modulation, emb, deep, *few)
            torch.testing.assert_close(short, expected)
        out, *kept = FullPass(unet, keep_encoder=True)(x, modulation, emb, *residuals)
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(DecoderPass(unet)(modulation, emb, *kept)[0], expected)
        with pytest.raises(ValueError, match="5 residuals given for 6 skips"):
            FullPass(unet)(x, modulation, emb, *residuals[1:])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("branch", [1, 3])
def test_the_feature_cache_is_exact_beside_a_controlnet_where_nothing_moves(
    pipelines: dict[str, StreamPipeline], family: str, branch: int
) -> None:
    plain = BASE.patched({"guidance_mode": "full", "steps": 2})
    cached = plain.patched({"cache.enabled": True, "cache.interval": 3, "cache.branch": branch, "cache.cascade": True})
    answers = stream(pipelines[family], cached, frames(4, still=True))
    assert "cached" in {answer.verdict for answer in answers}
    assert alike(answers, stream(pipelines[family], plain, frames(4, still=True)))


@pytest.mark.parametrize("reuse", ["steps", "encoder"])
def test_features_are_reused_between_the_steps_of_a_frame_beside_a_controlnet(
    pipelines: dict[str, StreamPipeline], reuse: str
) -> None:
    settings = BASE.patched({"steps": 3, "guidance_mode": "full", "cache.enabled": True, "cache.reuse": reuse})
    answers = stream(pipelines["sd15"], settings, frames(4))
    assert {answer.verdict for answer in answers} == {"cached"}
    without = stream(pipelines["sd15"], settings.patched({"control.scale": 0.0}), frames(4))
    for got, plain in zip(answers, without, strict=True):
        assert not close(shown(got), shown(plain), 5)


def test_what_a_full_pass_kept_under_one_scale_is_not_used_under_another(pipelines: dict[str, StreamPipeline]) -> None:
    pipeline = pipelines["sd15"]
    settings = BASE.patched({"cache.enabled": True, "cache.interval": 9})
    pipeline.prepare(settings)
    state, verdicts, made = pipeline.open(settings), [], []
    for frame, scale in zip(frames(6, still=True), (0.8, 0.8, 0.4, 0.4, 0.0, 0.0), strict=True):
        (answer,) = pipeline.step([Entry(state, frame, settings.patched({"control.scale": scale}))])
        verdicts.append(answer.verdict)
        made.append(shown(answer))
    assert verdicts == ["generated", "cached"] * 3
    assert not close(made[1], made[3], 2) and not close(made[3], made[5], 2)


def test_sessions_with_and_without_it_share_a_step(pipelines: dict[str, StreamPipeline]) -> None:
    pipeline = pipelines["sdxl"]
    wishes = [BASE.patched({"control.scale": scale, "prompt": prompt}) for scale, prompt in ((0.0, "a"), (0.5, "b"), (1.5, "c"))]
    together = pipeline.step([Entry(pipeline.open(wish), frames(1)[0], wish) for wish in wishes])
    for answer, wish in zip(together, wishes, strict=True):
        assert alike([answer], stream(pipeline, wish, frames(1)))


def test_until_its_graphs_are_ready_the_stream_goes_on_without(folders: dict[str, tuple[Path, Path]]) -> None:
    pipeline = load(spec(*folders["sd15"]))
    controlled = [GraphKey(part, 1) for part in ("control", "controlled-full")]
    for key in controlled:
        pipeline.graphs.evict(key)
    state = pipeline.open(BASE)
    (before,) = pipeline.step([Entry(state, frames(1)[0], BASE)])
    assert not any(map(pipeline.graphs.ready, controlled))
    pipeline.prepare(BASE)
    assert all(map(pipeline.graphs.ready, controlled))
    (after,) = pipeline.step([Entry(state, Frame(1, 0.04, PICTURES[0]), BASE)])
    assert not close(shown(before), shown(after), 5)


def test_from_a_prompt_alone_there_is_nothing_to_hold_to(pipelines: dict[str, StreamPipeline]) -> None:
    blank = [Frame(0, 0.0, None)]
    on, off = (stream(pipelines["sd15"], BASE.patched({"control.scale": scale}), blank) for scale in (1.0, 0.0))
    assert alike(on, off, 0)


def test_the_probe_sees_the_controlnet_too(pipelines: dict[str, StreamPipeline]) -> None:
    settings = BASE.patched({"steps": 2, "probe.enabled": True, "probe.every": 1, "probe.share": 0.9})
    probed = [answer for answer in stream(pipelines["sd15"], settings, frames(5)) if answer.reference is not None]
    assert probed
    for answer in probed:
        assert close(shown(answer), reference(answer))


def test_the_fingerprint_covers_the_controlnet(folders: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    model, control = folders["sd15"]
    other = save_control(tmp_path / "other", "sd15", seed=9)
    prints = [ModelParts(describe(spec(model, given).model)).fingerprints for given in (None, control, other)]
    assert len({found.control for found in prints}) == 3 and len({replace(found, control="") for found in prints}) == 1


def test_what_does_not_fit_is_refused_by_name(folders: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    model, control = folders["sd15"]
    with pytest.raises(ModelError, match="is for another model: cross_attention_dim is 80, the UNet has 32"):
        ModelParts(describe(f"{model}+control={folders['sdxl'][1]}"))
    with pytest.raises(ModelError, match="absent: is missing"):
        ModelParts(describe(f"{model}+control={tmp_path / 'absent'}"))
    with pytest.raises(ModelError, match="'UNet2DConditionModel' is not ControlNetModel"):
        ModelParts(describe(f"{model}+control={model / 'unet'}"))
    config = json.loads((control / "config.json").read_text())
    for field, value, words in (
        ("controlnet_conditioning_channel_order", "bgr", "'bgr' is not supported; supported is 'rgb'"),
        ("block_out_channels", [32, 64], r"block_out_channels is \[32, 64\], the UNet has \[32, 32\]"),
    ):
        broken = tmp_path / field
        broken.mkdir()
        (broken / "config.json").write_text(json.dumps({**config, field: value}))
        with pytest.raises(ModelError, match=words):
            ModelParts(describe(f"{model}+control={broken}"))
    (broken / "config.json").write_text(json.dumps(config))
    (broken / "diffusion_pytorch_model.bin").touch()
    with pytest.raises(ModelError, match="only pickled weights"):
        ModelParts(describe(f"{model}+control={broken}"))
    unet = UNet2DConditionModel(**UNETS["sd15"])
    unet.save_pretrained(tmp_path / "stranger")
    (tmp_path / "stranger/config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="weights and configuration differ"):
        _ = ModelParts(describe(f"{model}+control={tmp_path / 'stranger'}")).controls
