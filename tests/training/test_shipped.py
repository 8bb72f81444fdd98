"""The weights in assets/pocket: size, format, and diffusers' own image-to-image pipeline."""

from pathlib import Path

import pytest
import torch

from pipelines.autoencoder import PocketAutoencoder
from training.export import LIMIT, weight_bytes

FOLDER = Path(__file__).parents[2] / "assets" / "pocket"
pytestmark = pytest.mark.skipif(not (FOLDER / "model_index.json").exists(), reason="no weights in assets/pocket")


def test_size_and_format() -> None:
    assert weight_bytes(FOLDER) <= LIMIT
    assert [path for path in FOLDER.rglob("*") if path.suffix in {".bin", ".pt", ".pth", ".ckpt", ".pkl"}] == []
    for part in ("unet", "vae", "text_encoder"):
        assert len(list((FOLDER / part).glob("*.safetensors"))) == 1
    assert (FOLDER / "README.md").exists() and (FOLDER / "sheet.jpg").stat().st_size < 1_500_000


@pytest.fixture(scope="module")
def pipeline():
    from diffusers import StableDiffusionImg2ImgPipeline

    vae = PocketAutoencoder.from_pretrained(FOLDER / "vae", torch_dtype=torch.float32)
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(FOLDER, vae=vae, dtype=torch.float32, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _paint(pipe, prompt: str) -> torch.Tensor:
    from training import photographs

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
    from training import photographs
    from training.measures import ssim

    x = photographs.square(photographs.held_out()["coffee"], 128)
    assert ssim(_paint(pipeline, ""), x) > 0.6
