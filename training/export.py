"""Writes the pocket model as a folder in the diffusers layout, float16 safetensors only, and reads it back.

python -m training.export --runs runs --output assets/pocket
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import tempfile
from pathlib import Path

import diffusers
import torch
from transformers import CLIPTextModel, CLIPTokenizer

from pipelines.checkpoints.loader.folder import FolderCheckpoint
from pipelines.networks.cosine_autoencoder import CosineAutoencoder
from pipelines.techniques import schedule
from pipelines.values import vocabulary
from training import aids, autoencoder, perception, words
from training.denoiser import Denoiser
from training.loop import Run, averaged, channels_last
from training.model import build_scheduler
from training.refine import load_painter

LIMIT = 40_000_000  # bytes of weights
INDEX = {
    "_class_name": "StableDiffusionImg2ImgPipeline",
    "_diffusers_version": diffusers.__version__,
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "LCMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["pipelines.networks.cosine_autoencoder", "CosineAutoencoder"],
}


def weight_bytes(folder: Path) -> int:
    """Bytes of the networks under `folder`: of all safetensors files except the table of words, which is no network."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors") if path.parent.name != "words")


def export(model: Denoiser, vae: CosineAutoencoder, output: Path) -> int:
    """Writes the model to `output`, file by file and each atomically; returns the bytes of its weights.

    ValueError if they are more than 40,000,000. Files that are already there and not part of the model stay (model card, sheet).
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as scratch:
        folder = Path(scratch)
        parts = {"unet": model.unet, "text_encoder": model.text_encoder, "vae": vae}
        for name, module in parts.items():
            half = torch.nn.Module.to(copy.deepcopy(module), torch.float16)
            half.save_pretrained(folder / name, safe_serialization=True)
        model.tokenizer.save_pretrained(folder / "tokenizer")
        build_scheduler().save_pretrained(folder / "scheduler")
        (folder / "model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n")
        (folder / vocabulary.FILE).write_text(json.dumps(words.listing(), indent=1, ensure_ascii=False) + "\n")
        size = weight_bytes(folder)
        if size > LIMIT:
            raise ValueError(f"{size} bytes of weights, more than {LIMIT}")
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                target = output / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.chmod(0o644)
                os.replace(path, target)
    return size


@torch.no_grad()
def part_of_the_way(
    folder: Path, model: Denoiser, vae: CosineAutoencoder, share: float, decoder_share: float | None = None
) -> None:  # fmt: skip
    """Moves model and autoencoder back to `share`, 0..1, of the way from a finished model's weights to their own; the
    autoencoder to `decoder_share` where that is given: during a refinement the decoder adapts to the denoiser's latents and
    becomes worse on true ones.

    That keeps nearly all gains of the training, and nearly all abilities that it harmed (Wortsman et al. 2022, arXiv
    2203.05482; docs/experiments/pocket-5-to-8.md, 16 and 17). Raises ValueError where the two differ in a tensor's name or shape.
    """
    finished = load(folder)
    decoder_share = share if decoder_share is None else decoder_share
    pairs: tuple[tuple[torch.nn.Module, torch.nn.Module, float], ...] = (
        (model, finished[0], share), (vae, finished[1], decoder_share)
    )  # fmt: skip
    for mine, theirs, part in pairs:
        before = theirs.state_dict()
        for name, value in mine.state_dict().items():
            if name not in before or before[name].shape != value.shape:
                raise ValueError(f"{folder}: {name} is missing or of another shape")
            if value.is_floating_point():
                value.copy_(torch.lerp(before[name].to(value), value, part))


def load(folder: Path) -> tuple[Denoiser, CosineAutoencoder]:
    """The exported model in float32, for sheets and evaluation, with its own parts, words and schedule."""
    plan = schedule.from_config(json.loads((folder / "scheduler" / "scheduler_config.json").read_text()))
    model = Denoiser(schedule=plan.signal.square())
    model.unet = FolderCheckpoint(folder).network("unet").float()
    model.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    model.text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    return channels_last(model.eval()), channels_last(autoencoder.read(folder / "vae").eval())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder that training wrote")
    parser.add_argument("--output", type=Path, default=Path("assets/pocket"))
    parser.add_argument("--stage", choices=("random", "denoiser", "refine"), default="refine", help="weights to take")
    parser.add_argument("--folder", default="refine", help="name of the refinement's folder")
    parser.add_argument("--aids", action="store_true", help="keep perception network and critic with the code (training.aids)")
    parser.add_argument("--before", type=Path, help="folder of an earlier model: what training began with, or a point of the run")
    parser.add_argument("--share", type=float, default=1.0, help="how much of the way from those weights to take, 0..1")
    parser.add_argument("--decoder-share", type=float, help="the same of the autoencoder, where it is another")
    args = parser.parse_args()
    if args.stage == "refine":
        painter = load_painter(args.runs, args.folder)
        model, vae = painter.denoiser, painter.vae
        if args.aids:
            aids.keep(perception.load(args.runs), "perception")
            aids.keep(painter.critic, "critic")
    elif args.stage == "denoiser":
        vae = autoencoder.read(args.runs / "autoencoder")
        model = averaged(Run(args.runs / "denoiser"), Denoiser(vae.config["latent_channels"]))
    else:
        torch.manual_seed(0)
        model, vae = Denoiser(), CosineAutoencoder()
    if args.before is not None:
        part_of_the_way(args.before, model, vae, args.share, args.decoder_share)
    size = export(model, vae, args.output)
    print(json.dumps({"output": str(args.output), "weight_bytes": size}))


if __name__ == "__main__":
    main()
