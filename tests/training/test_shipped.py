"""The weights in assets/pocket: size, format, what they draw, and diffusers' own image-to-image pipeline."""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean

import pytest
import torch
from torch import Tensor

from pipelines.checkpoints.loader.folder import FolderCheckpoint
from pipelines.networks.cosine_autoencoder import CosineAutoencoder
from pipelines.values.vocabulary import read_vocabulary
from tests.training.likeness import ssim
from training import autoencoder, photographs
from training.denoiser import Denoiser
from training.export import LIMIT, load, weight_bytes
from training.looks import LOOKS
from training.scenes import SUBJECTS
from training.sheet import paint

FOLDER = Path(__file__).parents[2] / "assets" / "pocket"
pytestmark = pytest.mark.skipif(not (FOLDER / "model_index.json").exists(), reason="no weights in assets/pocket")


@dataclass(frozen=True)
class Subject:
    model: Denoiser
    vae: CosineAutoencoder


def test_size_and_format() -> None:
    assert weight_bytes(FOLDER) <= LIMIT
    assert sum(path.stat().st_size for path in (FOLDER / "words").iterdir()) <= 4_000_000
    assert [path for path in FOLDER.rglob("*") if path.suffix in {".bin", ".pt", ".pth", ".ckpt", ".pkl"}] == []
    for part in ("unet", "vae", "text_encoder"):
        assert len(list((FOLDER / part).glob("*.safetensors"))) == 1
    assert (FOLDER / "README.md").exists() and (FOLDER / "sheet.jpg").stat().st_size < 1_500_000


def test_the_autoencoder_keeps_photographs() -> None:
    found = autoencoder.round_trips(autoencoder.read(FOLDER / "vae").eval(), photographs.held_out(), 300)
    assert len(found) == 6 and fmean(found.values()) >= 30 and min(found.values()) >= 27


@pytest.fixture(scope="module")
def tested() -> Subject:
    return Subject(*load(FOLDER))


@pytest.fixture(scope="module")
def photos() -> dict[str, Tensor]:
    return {name: photographs.square(photographs.held_out()[name], 256) for name in ("astronaut", "coffee")}


def test_it_lists_what_it_was_taught() -> None:
    listed = read_vocabulary(FOLDER)
    assert {look.name for look in listed.looks} <= set(LOOKS) and len(listed.looks) >= 9
    assert {scene.name for scene in listed.scenes} <= set(SUBJECTS) and len(listed.painted) >= 24
    assert {word.group for word in listed.modifiers} == {"palette", "light", "texture", "intensity"}


def test_looks_are_distinguished(tested: Subject, photos: dict[str, Tensor]) -> None:
    """By their pixels, whoever looks: any two of the looks that the UNet draws differ."""
    looks = read_vocabulary(FOLDER).looks
    painted = {look.name: [paint(tested.model, tested.vae, x, [look.prompt], 0.6) for x in photos.values()] for look in looks}
    for a, b in combinations(painted, 2):
        apart = fmean(255 * float((x - y).abs().mean()) for x, y in zip(painted[a], painted[b], strict=True))
        assert apart >= 8, f"{a} and {b} differ by {apart:.1f} grey levels"


def test_a_blend_of_two_prompts_lies_between_them(tested: Subject, photos: dict[str, Tensor]) -> None:
    model, x = tested.model, photos["coffee"]
    y = {name: paint(model, tested.vae, x, [name], 0.5) for name in ("night vision", "pop art")}
    ids = model.tokenizer(list(y), padding="max_length", max_length=24, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        first, second = model.text_encoder(ids).last_hidden_state
    half = _painted_under(tested, x, torch.lerp(first, second, 0.5))
    apart = float((y["night vision"] - y["pop art"]).abs().mean())
    for name in y:
        assert 0.1 * apart < float((half - y[name]).abs().mean()) < 0.95 * apart


def _painted_under(tested: Subject, x: Tensor, embedding: Tensor) -> Tensor:
    """As `paint` at strength 0.5, under an embedding (L, D)."""
    from training.sheet import decoded

    model = tested.model
    with torch.no_grad():
        z = tested.vae.encode(x * 2 - 1).latents
        noise = torch.randn((1, *z.shape[1:]), generator=torch.Generator().manual_seed(0))
        t = torch.full((1,), 500)
        out = model.unet(model.noisy(z, t, noise), t, embedding[None], return_dict=False)[0]
    return decoded(tested.vae, out)


@pytest.fixture(scope="module")
def pipeline():
    from diffusers import StableDiffusionImg2ImgPipeline

    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(
        FOLDER, unet=FolderCheckpoint(FOLDER).network("unet").float(), vae=autoencoder.read(FOLDER / "vae"), dtype=torch.float32,
        local_files_only=True,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _paint(pipe, prompt: str) -> Tensor:
    x = photographs.square(photographs.held_out()["coffee"], 128)
    output = pipe(
        prompt, image=x, strength=0.5, num_inference_steps=2, guidance_scale=1.0, output_type="pt",
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    return output.images


def test_diffusers_pipeline_paints(pipeline) -> None:
    neon, pencil = _paint(pipeline, "neon outlines"), _paint(pipeline, "pencil sketch")
    assert neon.shape == (1, 3, 128, 128) and torch.isfinite(neon).all()
    assert neon.mean() < pencil.mean() - 0.2  # light on black, and graphite on paper


def test_empty_prompt_keeps_the_photograph(pipeline) -> None:
    x = photographs.square(photographs.held_out()["coffee"], 128)
    assert ssim(_paint(pipeline, ""), x) > 0.6
