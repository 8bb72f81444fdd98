"""The int8 variant: writes its calibration pictures beside the weights, and measures its loss and gain.

    python -m training.quantise --weights assets/pocket

The variant itself is built at the first start on a CPU without bfloat16 (`pipelines/graphs/calibration.py`, NNCF) and kept in
the cache folder. It is compared with float32 in one run: SSIM and PSNR on held-out photographs over all looks, and milliseconds
a frame.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch

from pipelines import Entry, Frame, Pixels, Settings, StreamPipeline, StreamSpec, load, quality
from pipelines.checkpoints.loader.model_files import CALIBRATION
from training import data, photographs
from training.pictures import to_image

SEED = 7  # of the pictures; the denoiser's own are made from others
COUNT, SIDE = 16, 512


def write_pictures(folder: Path, count: int = COUNT, side: int = SIDE) -> list[Path]:
    """`count` (at most 40) pictures of the kinds that the model was trained on, side x side, as folder/calibration/00.jpg, ..."""
    target = folder / CALIBRATION
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    paths = [target / f"{index:02d}.jpg" for index in range(count)]
    for path, picture in zip(paths, data.chunk(SEED, 0, side), strict=False):
        to_image(picture).save(path, quality=88)
    return paths


def photographs_at(side: int) -> list[Pixels]:
    """Held-out photographs, uint8 [side, side, 3]."""
    found = photographs.held_out().values()
    return [np.array(to_image(photographs.square(picture, side)[0])) for picture in found]


def compare(folder: Path, side: int = SIDE, strength: float = 0.5) -> dict[str, Any]:
    """int8 against float32, OpenVINO, one step: likeness over looks and photographs, medians of the frames' model time."""
    lanes = {dtype: load(StreamSpec(str(folder), side, side, "openvino", dtype)) for dtype in ("float32", "int8")}
    likeness: list[float] = []
    decibels: list[float] = []
    times: dict[str, list[float]] = {dtype: [] for dtype in lanes}
    pictures = photographs_at(side)
    for index, prompt in enumerate(lanes["float32"].info.prompts):
        settings = Settings().patched({"prompt": prompt, "strength": strength})
        made = {dtype: _made(pipeline, pictures[index % len(pictures)], settings) for dtype, pipeline in lanes.items()}
        for dtype, (_, spent) in made.items():
            times[dtype] += spent
        likeness.append(quality.ssim(made["int8"][0], made["float32"][0]))
        decibels.append(quality.psnr(made["int8"][0], made["float32"][0]))
    medians = {dtype: round(median(values), 2) for dtype, values in times.items()}
    return {
        "looks": len(likeness),
        "ssim_mean": round(fmean(likeness), 4),
        "ssim_worst": round(min(likeness), 4),
        "psnr_mean_db": round(fmean(decibels), 2),
        "frame_ms": medians,
        "ratio": round(medians["float32"] / medians["int8"], 3),
    }


def _made(pipeline: StreamPipeline, picture: Pixels, settings: Settings) -> tuple[Pixels, list[float]]:
    """A picture, and the milliseconds of each of three frames after a first one."""
    state, spent = pipeline.open(settings), []
    for index in range(4):
        (answer,) = pipeline.step([Entry(state, Frame(index, 0.0, picture), settings)])
        spent.append(answer.timings.model)
    assert answer.pixels is not None
    return answer.pixels.numpy(), spent[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("assets/pocket"), help="a folder that training.export wrote")
    parser.add_argument("--keep-pictures", action="store_true", help="measure with the pictures that are there already")
    args = parser.parse_args()
    if not args.keep_pictures:
        torch.set_flush_denormal(True)
        write_pictures(args.weights)
    print(json.dumps(compare(args.weights)))


if __name__ == "__main__":
    main()
