"""Latents of the pool's pictures in every look, made once, so that a step of the denoiser reads instead of computing.

python -m training.latents --runs runs --pictures 900
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Generator, Tensor
from tqdm import tqdm

from pipelines.autoencoder import PocketAutoencoder
from training import data
from training.looks import LOOKS
from training.loop import channels_last

NAMES = tuple(LOOKS)
GROUP = 10


@torch.no_grad()
def encode_looks(model: PocketAutoencoder, x: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) in [0, 1] to the latents of all looks, float16 (N, looks, 16, H/8, W/8); look 0 is the picture."""
    latents = []
    for look in LOOKS.values():
        y = (look(x) * 2 - 1).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, cache_enabled=False):
            latents.append(model.encode(y).latents.to(torch.float16))
    return torch.stack(latents, 1)


def store(path: Path, model: PocketAutoencoder, pictures: np.ndarray, count: int, device: str = "cpu") -> np.ndarray:
    """Latents of the first `count` pictures, float16 (count, looks, 16, 32, 32), as a read-only memory map.

    Made or continued where missing. They belong to one autoencoder: delete the file when the autoencoder changes.
    """
    counter = path.with_suffix(".count")
    done = int(counter.read_text()) if path.exists() and counter.exists() else 0
    if done < count:
        side = data.SIDE // 8
        shape = (count, len(NAMES), 16, side, side)
        out = open_memmap(path, mode="r+" if done else "w+", dtype=np.float16, shape=shape)
        model = channels_last(model.to(device)).eval()

        def group(start: int) -> None:
            stop = min(start + GROUP, count)
            x = torch.from_numpy(pictures[start:stop].copy()).float().to(device) / 255
            out[start:stop] = encode_looks(model, x).cpu().numpy()

        with ThreadPoolExecutor(2) as workers:
            for start in tqdm(range(done, count, 2 * GROUP), desc="latents", unit="group", mininterval=5):
                list(workers.map(group, range(start, min(count, start + 2 * GROUP), GROUP)))
                counter.write_text(str(min(count, start + 2 * GROUP)))
        out.flush()
    return np.load(path, mmap_mode="r")[:count]


def batch(latents: np.ndarray, n: int, side: int, looks: list[int], rng: Generator) -> tuple[Tensor, Tensor]:
    """Random windows: source and target latents, each float32 (n, 16, side, side); `looks` gives each row's target."""
    pictures = torch.randint(0, len(latents), (n,), generator=rng).tolist()
    corners = torch.randint(0, latents.shape[-1] - side + 1, (n, 2), generator=rng).tolist()
    rows = list(zip(pictures, looks, corners, strict=True))

    def windows(choose: bool) -> Tensor:
        cut = [latents[k, look if choose else 0, :, y : y + side, x : x + side] for k, look, (y, x) in rows]
        return torch.from_numpy(np.stack(cut)).float()

    return windows(False), windows(True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for everything that training writes")
    parser.add_argument("--pictures", type=int, default=900)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    model = PocketAutoencoder.from_pretrained(args.runs / "autoencoder" / "final")
    pictures = np.load(args.runs / "sources.npy", mmap_mode="r")
    out = store(args.runs / "latents.npy", model, pictures, args.pictures, args.device)
    print(f"{len(out)} pictures x {len(NAMES)} looks in {args.runs / 'latents.npy'}")


if __name__ == "__main__":
    main()
