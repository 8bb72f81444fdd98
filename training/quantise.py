"""The int8 variant: writes its calibration pictures beside the weights, and measures its loss and gain.

    python -m training.quantise --weights assets/pocket

The variant itself is built at the first start with `--dtype int8` (`pipelines/graphs/calibration.py`, NNCF) and kept in the cache
folder. It is compared with float32 in one run: SSIM and PSNR on held-out photographs over all looks at one step and at four, and
milliseconds a frame.
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
    """int8 against float32, OpenVINO: likeness over looks and photographs at one step, and at four (`at_four`); medians of the
    frames' model time at one step."""
    lanes = {dtype: load(StreamSpec(str(folder), side, side, "openvino", dtype)) for dtype in ("float32", "int8")}
    one, times = _likeness(lanes, photographs_at(side), strength, 1)
    four, _ = _likeness(lanes, photographs_at(side), strength, 4)
    medians = {dtype: round(median(values), 2) for dtype, values in times.items()}
    ratio = round(medians["float32"] / medians["int8"], 3)
    return {"looks": len(lanes["float32"].info.prompts), **one, "at_four": four, "frame_ms": medians, "ratio": ratio}


def _likeness(
    lanes: dict[str, StreamPipeline], pictures: list[Pixels], strength: float, steps: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """(likeness over all looks, milliseconds by dtype)."""
    likeness: list[float] = []
    decibels: list[float] = []
    times: dict[str, list[float]] = {dtype: [] for dtype in lanes}
    for index, prompt in enumerate(lanes["float32"].info.prompts):
        settings = Settings().patched({"prompt": prompt, "strength": strength, "steps": steps})
        made = {dtype: _made(pipeline, pictures[index % len(pictures)], settings) for dtype, pipeline in lanes.items()}
        for dtype, (_, spent) in made.items():
            times[dtype] += spent
        likeness.append(quality.ssim(made["int8"][0], made["float32"][0]))
        decibels.append(quality.psnr(made["int8"][0], made["float32"][0]))
    mean, worst = round(fmean(likeness), 4), round(min(likeness), 4)
    return {"ssim_mean": mean, "ssim_worst": worst, "psnr_mean_db": round(fmean(decibels), 2)}, times


def _made(pipeline: StreamPipeline, picture: Pixels, settings: Settings) -> tuple[Pixels, list[float]]:
    """A picture of at most four steps, and the milliseconds of each of three frames after a first one."""
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
