"""Makes the pocket model from nothing: data, autoencoder, denoiser, perception, namer, refinement, export, sheet.

    python -m training
    python -m training painter      the painter after the decoder (training/painter)
    python -m training words        the table of free words (training/free_words)

Every stage continues where an interrupted run stopped. On two CPU cores with AMX this takes under two hours.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from training import autoencoder, data, denoiser, lessons, namer, perception, refine
from training.export import export
from training.loop import Run
from training.sheet import write_sheet


def main() -> None:
    if sys.argv[1:2] == ["painter"]:
        from training.painter.__main__ import main as painter

        painter(sys.argv[2:])
        return
    if sys.argv[1:2] == ["words"]:
        from training.free_words.__main__ import main as free_words

        free_words(sys.argv[2:])
        return
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__, formatter_class=layout)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for everything that training writes")
    parser.add_argument("--output", type=Path, default=Path("assets/pocket"))
    parser.add_argument("--pictures", type=int, default=3000)
    parser.add_argument("--fraction", type=float, default=1.0, help="share of all steps and pictures, for a trial run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)  # see training.loop
    torch.set_flush_denormal(True)

    def share(count: int) -> int:
        return max(2, round(args.fraction * count))

    store = data.pool(args.runs / "sources.npy", share(args.pictures), args.seed)
    autoencoder.make(store, args.runs / "autoencoder", args.seed)
    in_latents = denoiser.DenoiserConfig(steps=share(denoiser.DenoiserConfig.steps), scenes=share(5000), seed=args.seed)
    denoiser.run_stage(args.runs, in_latents, device=args.device)
    named = lessons.scene_pool(args.runs / "scenes.npy", share(5000), args.seed)
    perception.train(
        perception.PerceptionConfig(steps=share(perception.PerceptionConfig.steps)), Run(args.runs / "perception"), store, named
    )
    to_name = namer.NamerConfig(steps=share(namer.STEPS), seed=args.seed + namer.OFFSET)
    namer.make(args.runs, store, to_name, share(namer.WINDOWS))
    in_pictures = refine.RefineConfig(steps=share(refine.RefineConfig.steps), scenes=share(5000), seed=args.seed)
    refine.run_stage(args.runs, in_pictures, device=args.device)
    painter = refine.load_painter(args.runs)
    model, vae = painter.denoiser, painter.vae
    size = export(model, vae, args.output)
    names = ("astronaut", "coffee", "chelsea", "tower")
    write_sheet(args.output / "sheet.jpg", model, vae, strengths=(0.5,), side=512, names=names, shown=320)
    print(json.dumps({"output": str(args.output), "weight_bytes": size}))


if __name__ == "__main__":
    main()
