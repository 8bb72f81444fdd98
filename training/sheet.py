"""Picture sheets: held-out photographs in every look, painted in one step.

python -m training.sheet --weights assets/pocket --output assets/pocket/sheet.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import ImageDraw
from torch import Generator, Tensor

from pipelines.networks.cosine_autoencoder import CosineAutoencoder
from pipelines.techniques.schedule import falling
from training import photographs, pictures, words
from training.denoiser import Denoiser
from training.looks import LOOKS
from training.loop import mixed
from training.model import TIMESTEP_POWER


def timestep(strength: float) -> int:
    """Strength 0..1 to the timestep 0..999 at which one step starts."""
    return round(strength * 999)


@torch.no_grad()
def denoise(model: Denoiser, z: Tensor | None, noise: Tensor, prompts: list[str], t: int, steps: int, rng: Generator) -> Tensor:
    """Latents of `steps` steps from timestep `t`; z None starts from noise alone. Later steps draw fresh noise from `rng`."""
    latents = z
    for level in falling(t, steps, TIMESTEP_POWER):
        at = torch.full((len(prompts),), level, device=noise.device)
        x = noise if latents is None else model.noisy(latents, at, noise)
        latents = model(x.contiguous(memory_format=torch.channels_last), at, prompts)
        noise = torch.randn((1, *latents.shape[1:]), generator=rng).to(latents).expand_as(latents)
    assert latents is not None
    return latents


@torch.no_grad()
def decoded(vae: CosineAutoencoder, z: Tensor) -> Tensor:
    """Latents to pictures in [0, 1], in bfloat16 where that is faster."""
    with mixed(z.device.type):
        picture: Tensor = vae.decode(z, return_dict=False)[0]
    return (picture.float().cpu() / 2 + 0.5).clamp(0, 1)


@torch.no_grad()
def paint(
    model: Denoiser, vae: CosineAutoencoder, x: Tensor, prompts: list[str], strength: float, seed: int = 0, steps: int = 1
) -> Tensor:  # fmt: skip
    """Pictures (N, 3, H, W) in [0, 1] painted at `strength` 0..1, one prompt per picture; the same noise in every row.

    In bfloat16 where that is faster, as the engine computes.
    """
    x = x.to(vae.latent_mean).contiguous(memory_format=torch.channels_last) * 2 - 1
    with mixed(x.device.type):
        z = vae.encode(x).latents.float()
    rng = Generator().manual_seed(seed)
    noise = torch.randn((1, *z.shape[1:]), generator=rng).to(z).expand_as(z)
    return decoded(vae, denoise(model, z, noise, prompts, timestep(strength), steps, rng))


@torch.no_grad()
def imagine(model: Denoiser, vae: CosineAutoencoder, prompts: list[str], side: int, seed: int = 0, steps: int = 1) -> Tensor:
    """Pictures (N, 3, side, side) in [0, 1] from noise and prompts alone; every row has its own noise."""
    rng = Generator().manual_seed(seed)
    channels = vae.latent_mean.shape[1]
    noise = torch.randn((len(prompts), channels, side // 8, side // 8), generator=rng).to(vae.latent_mean)
    return decoded(vae, denoise(model, None, noise, prompts, 999, steps, rng))


def write_sheet(
    path: Path, model: Denoiser, vae: CosineAutoencoder, *, strengths: tuple[float, ...], side: int,
    names: tuple[str, ...], looks: tuple[str, ...] | None = None, columns: int = 8, shown: int | None = None,
) -> None:  # fmt: skip
    """Per photograph and strength: the source, then every look, `columns` tiles of side x side in a row, captions burnt in.

    `side` is what the model paints; `shown` the size of a tile in the file.
    """
    chosen, held = looks or tuple(LOOKS), photographs.held_out()
    rows = []
    for name in names:
        if name not in held:
            continue
        x = photographs.square(held[name], side)
        for strength in strengths:
            tiles = [_label(x[0], f"{name}, strength {strength}", shown)]
            for look in chosen:
                prompt = words.NAMES[look][0]
                tiles.append(_label(paint(model, vae, x, [prompt], strength)[0], prompt, shown))
            blank = torch.ones_like(tiles[0])
            tiles += [blank] * (-len(tiles) % columns)
            rows += [torch.cat(tiles[k : k + columns], 2) for k in range(0, len(tiles), columns)]
    pictures.to_image(torch.cat(rows, 1)).save(path, quality=84, optimize=True)


def _label(x: Tensor, text: str, shown: int | None) -> Tensor:
    image = pictures.to_image(x)
    if shown is not None:
        image = image.resize((shown, shown))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 7 + 6.2 * len(text), 15), fill=(0, 0, 0))
    draw.text((4, 2), text, fill=(255, 255, 255))
    return pictures.from_image(image)


def main() -> None:
    from training.export import load

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("assets/pocket"), help="a folder that training.export wrote")
    parser.add_argument("--output", type=Path, default=Path("assets/pocket/sheet.jpg"))
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.5])
    parser.add_argument("--side", type=int, default=512, help="side that the model paints, a multiple of 64")
    parser.add_argument("--shown", type=int, default=200, help="side of a tile in the sheet")
    parser.add_argument("--names", nargs="+", default=["astronaut", "coffee", "chelsea", "tower"])
    args = parser.parse_args()
    torch.set_num_threads(1)  # see training.loop
    torch.set_flush_denormal(True)
    model, vae = load(args.weights)
    write_sheet(
        args.output, model, vae, strengths=tuple(args.strengths), side=args.side, names=tuple(args.names), shown=args.shown,
    )  # fmt: skip
    print(args.output)


if __name__ == "__main__":
    main()
