"""The pool of source pictures: crops of photographs and procedural scenes, made once and stored on disk as bytes.

python -m training.data --runs runs --pictures 3000
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Generator, Tensor
from tqdm import tqdm

from training import photographs, scenes

SIDE = 256
CHUNK = 40
AMONG = 4  # candidate windows for a detailed one
# Of each chunk of 40: photographs are worth most, leaves hold the widest range of edges.
MIXTURE = (
    (photographs.crops, 16), (scenes.leaves, 8), (scenes.landscape, 3), (scenes.portrait, 6), (scenes.scenery, 7),
)  # fmt: skip


def chunk(seed: int, index: int, side: int = SIDE) -> Tensor:
    """Chunk `index` of the pool: (40, 3, S, S) in [0, 1], shuffled; a function of its arguments only."""
    rng = Generator().manual_seed(seed * 100_003 + index)
    pictures = torch.cat([make(count, side, rng) for make, count in MIXTURE])
    return pictures[torch.randperm(CHUNK, generator=rng)]


def pool(path: Path, pictures: int, seed: int) -> np.ndarray:
    """The pool as a read-only memory map, uint8 (N, 3, 256, 256); missing parts are made.

    A counter file beside it records complete chunks, so an interrupted run continues where it stopped.
    """
    count = -(-pictures // CHUNK) * CHUNK
    counter = path.with_suffix(".count")
    done = int(counter.read_text()) if path.exists() and counter.exists() else 0
    if done < count:
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (count, 3, SIDE, SIDE)
        if done and np.load(path, mmap_mode="r").shape != shape:
            done = 0
        store = open_memmap(path, mode="r+" if done else "w+", dtype=np.uint8, shape=shape)
        for start in tqdm(range(done, count, CHUNK), desc="pictures", unit="chunk"):
            pixels = (chunk(seed, start // CHUNK) * 255).round().to(torch.uint8)
            store[start : start + CHUNK] = pixels.numpy()
            counter.write_text(str(start + CHUNK))
        store.flush()
    return np.load(path, mmap_mode="r")


def batch(store: np.ndarray, n: int, side: int, rng: Generator, align: int = 1, detailed: float = 0.0) -> Tensor:
    """(n, 3, side, side) in [0, 1]: random windows of random pictures, mirrored half of the time.

    Window corners are multiples of `align` pixels. About the share `detailed` of them are the most detailed of AMONG.
    """
    if detailed:
        drawn = batch(store, n * AMONG, side, rng, align).unflatten(0, (n, AMONG))
        detail = torch.stack([(picture[..., 1:] - picture[..., :-1]).abs().mean((1, 2, 3)) for picture in drawn])
        chosen = torch.where(torch.rand(n, generator=rng) < detailed, detail.argmax(1), 0)
        return drawn[torch.arange(n), chosen]
    picks = torch.randint(0, len(store), (n,), generator=rng).tolist()
    steps = (store.shape[-1] - side) // align + 1
    corners = (torch.randint(0, steps, (n, 2), generator=rng) * align).tolist()
    windows = [store[k, :, top : top + side, left : left + side] for k, (top, left) in zip(picks, corners, strict=True)]
    x = torch.from_numpy(np.stack(windows)).float() / 255
    mirror = torch.rand(n, generator=rng) < 0.5
    return torch.where(mirror.view(n, 1, 1, 1), x.flip(3), x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for everything that training writes")
    parser.add_argument("--pictures", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_flush_denormal(True)  # far tails of Gaussian masks are denormal: 10 times slower without this
    store = pool(args.runs / "sources.npy", args.pictures, args.seed)
    print(f"{len(store)} pictures of {SIDE} x {SIDE} in {args.runs / 'sources.npy'}")


if __name__ == "__main__":
    main()
