"""Pipelines of optimum-intel, and the OpenVINO path of FastSD CPU, as a process: `PYTHON -P openvino_peer.py CHECKPOINT ...`.

It runs in the peers' own environment (benchmarks/peer_environment.py) and imports nothing of Rill (-P: nor a module beside it).
Both lanes share one export of the checkpoint by optimum-intel: text encoder and UNet. The tiny autoencoder, which optimum-intel
does not export, is converted with the names that its pipelines read.

optimum-intel: `OVStableDiffusionImg2ImgPipeline` with all shapes static and the prompt encoded once: its fastest use.

FastSD CPU (github.com/rupeshs/fastsdcpu at b5e5cab, src/backend/lcm_text_to_image.py and openvino/pipelines.py): these calls.
`OVStableDiffusionImg2ImgPipeline.from_pretrained(..., ov_config={"CACHE_DIR": ""}, device="CPU")` with a tiny autoencoder of
scaling factor 1 as its OVModelVae; `LCMScheduler.from_config`; `reshape(batch_size=-1, height=, width=, num_images_per_prompt=1)`
and `compile()`; for each picture `torch.manual_seed(seed)` and a call with the prompt as text, strength and guidance 1. It asks
for three times the steps there; here both lanes make one step, at the same timestep.

Protocol: one JSON object in a line each way. In: {"lane", "pictures": .npy of uint8 [N, H, W, 3], "save": .npy or null}. Out:
{"milliseconds": [N]}. The first line out, before any request: {"ready": versions}.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Picture = npt.NDArray[np.uint8]

LANES = ("optimum-intel", "FastSD CPU")
PACKAGES = ("optimum-intel", "openvino", "diffusers", "torch")
STEPS, STRENGTH = 2, 0.5
"""LCM's grid of two steps is 999, 499; at strength 0.5 only the second is made."""


class TinyEncoder(nn.Module):
    """[B, 3, H, W] in [-1, 1] to latents."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return self.vae.encode(sample).latents


class TinyDecoder(nn.Module):
    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent_sample: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(latent_sample).sample


def save_autoencoder(source: Path, target: Path) -> None:
    """The tiny autoencoder of a checkpoint as vae_encoder and vae_decoder in OpenVINO's form."""
    import openvino as ov
    from diffusers import AutoencoderTiny

    vae = AutoencoderTiny.from_pretrained(source / "vae", torch_dtype=torch.float32).eval()
    for name, module, taken, given, channels in (
        ("vae_encoder", TinyEncoder(vae), "sample", "latent_sample", 3),
        ("vae_decoder", TinyDecoder(vae), "latent_sample", "sample", vae.config.latent_channels),
    ):
        model = ov.convert_model(module, example_input=torch.zeros(1, channels, 64, 64))
        model.inputs[0].get_tensor().set_names({taken})
        model.outputs[0].get_tensor().set_names({given})
        model.reshape([-1, channels, -1, -1])
        (target / name).mkdir(parents=True)
        ov.save_model(model, target / name / "openvino_model.xml", compress_to_fp16=False)
        vae.save_config(target / name)


def save_others(source: Path, target: Path) -> None:
    """Text encoder and UNet by optimum-intel's own export; scheduler, tokenizer and index as they are."""
    from diffusers import UNet2DConditionModel
    from optimum.exporters.openvino import export_models
    from optimum.exporters.openvino.model_configs import CLIPTextOpenVINOConfig, UNetOpenVINOConfig
    from transformers import CLIPTextModel

    unet = UNet2DConditionModel.from_pretrained(source / "unet", torch_dtype=torch.float32).eval()
    text = CLIPTextModel.from_pretrained(source / "text_encoder", torch_dtype=torch.float32).eval()
    unet.config.requires_aesthetics_score = False
    unet.config.time_cond_proj_dim = None
    unet.config.text_encoder_projection_dim = text.config.projection_dim
    export_models(
        {
            "unet": (unet, UNetOpenVINOConfig(unet.config, task="semantic-segmentation")),
            "text_encoder": (text, CLIPTextOpenVINOConfig(text.config, task="feature-extraction")),
        },
        target,
        output_names=["unet/openvino_model.xml", "text_encoder/openvino_model.xml"],
        stateful=False,
    )
    unet.save_config(target / "unet")
    text.config.save_pretrained(target / "text_encoder")
    for name in ("scheduler", "tokenizer"):
        shutil.copytree(source / name, target / name)
    shutil.copy(source / "model_index.json", target)


def exported(source: Path, target: Path) -> Path:
    """The checkpoint in OpenVINO's form, in `target`; an export that is there already is used."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            save_autoencoder(source, Path(folder) / "made")
            save_others(source, Path(folder) / "made")
            (Path(folder) / "made").rename(target)
    return target


def pipeline(folder: Path, precision: str, size: int) -> Any:
    """As FastSD CPU makes it: fixed height and width, any number of rows."""
    from diffusers import LCMScheduler
    from optimum.intel.openvino import OVStableDiffusionImg2ImgPipeline

    config = {"CACHE_DIR": "", "INFERENCE_PRECISION_HINT": precision}
    made = OVStableDiffusionImg2ImgPipeline.from_pretrained(folder, ov_config=config, device="CPU", compile=False)
    made.scheduler = LCMScheduler.from_config(made.scheduler.config)
    made.set_progress_bar_config(disable=True)
    made.reshape(batch_size=-1, height=size, width=size, num_images_per_prompt=1)
    return made


def fastsd(folder: Path, precision: str, size: int, prompt: str, seed: int) -> Callable[[Picture], Picture]:
    from PIL import Image

    made = pipeline(folder, precision, size)
    made.compile()

    def transform(picture: Picture) -> Picture:
        torch.manual_seed(seed)
        options = {"num_inference_steps": STEPS, "guidance_scale": 1.0, "num_images_per_prompt": 1}
        called = made(image=Image.fromarray(picture), strength=STRENGTH, prompt=prompt, negative_prompt="", **options)
        return np.asarray(called.images[0])

    return transform


def optimum(folder: Path, precision: str, size: int, prompt: str, seed: int) -> Callable[[Picture], Picture]:
    from PIL import Image

    made = pipeline(folder, precision, size)
    embeds, _ = made.encode_prompt(prompt, made.device, 1, do_classifier_free_guidance=False)
    for part in (made.unet, made.vae_encoder):  # reshape() allows one row only with guidance, which doubles them
        part.model.reshape({taken: [1, *list(taken.get_partial_shape())[1:]] for taken in part.model.inputs if _rows(taken)})
    made.compile()

    def transform(picture: Picture) -> Picture:
        generator = torch.Generator().manual_seed(seed)
        options = {"num_inference_steps": STEPS, "guidance_scale": 1.0, "generator": generator}
        called = made(image=Image.fromarray(picture), strength=STRENGTH, prompt_embeds=embeds, **options)
        return np.asarray(called.images[0])

    return transform


def _rows(taken: Any) -> bool:
    shape = taken.get_partial_shape()
    return shape.rank.get_length() > 1 and shape[0].is_dynamic


def answer(lanes: dict[str, Callable[[Picture], Picture]], request: dict[str, Any]) -> dict[str, Any]:
    transform, milliseconds, made = lanes[request["lane"]], [], []
    for picture in np.load(request["pictures"]):
        start = time.perf_counter()
        made.append(transform(picture))
        milliseconds.append((time.perf_counter() - start) * 1000)
    if request["save"]:
        np.save(request["save"], np.stack(made))
    return {"milliseconds": milliseconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a folder in the diffusers layout with a tiny autoencoder")
    parser.add_argument("export", type=Path, help="a folder for the models in OpenVINO's form; made if it is missing")
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--precision", choices=("f32", "bf16"), required=True)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--seed", type=int, required=True, help="of the noise")
    args = parser.parse_args()
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no reply
    given = (exported(args.checkpoint, args.export), args.precision, args.size, args.prompt, args.seed)
    lanes = dict(zip(LANES, (optimum(*given), fastsd(*given)), strict=True))
    print(json.dumps({"ready": {name: version(name) for name in PACKAGES}}), file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(lanes, json.loads(line))), file=replies, flush=True)


if __name__ == "__main__":
    main()
