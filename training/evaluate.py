"""Figures on pictures and clips that the model was not trained on; the last line of output is one JSON object.

    python -m training.evaluate --weights assets/pocket --output runs/evaluation

Everything per number of steps, 1 to 4, for the looks and scenes that the model folder lists (`looks.json`):

- agreement with the teacher per look at strength 0.5: SSIM of luma, colour-histogram distance (`training.measures`);
- prompt accuracy at strength 0.6 by the look classifier (`training.classifier`), which was trained on teacher outputs only, with
  the confusions; Frechet distance of its features to those of the teacher's pictures; sharpness against theirs;
- structure kept at strength 0.5: F1 of edges, the look neutralised (`measures.structure`);
- flicker at strength 0.5: output difference over input difference for sensor noise of 2/255 on a still scene, diffusion noise
  fixed; and on a clip, difference from frame to frame against that of the teacher's frames;
- text to image: accuracy by the subject classifier, Frechet distance to fresh scenes, diversity over seeds against theirs.

With `--choosing` it measures crops of the training photographs with other noise. These figures decide which version is shipped,
so the reported figures are independent of that choice.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Generator, Tensor

from pipelines.networks.cosine_autoencoder import CosineAutoencoder
from pipelines.values.vocabulary import Word, read_vocabulary
from training import classifier, measures, photographs, pictures, scenes
from training.autoencoder import psnr
from training.classifier import Classifier
from training.denoiser import Denoiser
from training.looks import LOOKS
from training.sheet import imagine, paint
from training.teacher import Request, teacher

CLIP = Path(__file__).parents[1] / "assets" / "samples" / "sample.mp4"
NAMES = ("astronaut", "coffee", "tower", "chelsea")
MORE = ("cheetah1", "lion", "groot", "cheetah2")  # more photographs for prompts: an eighth is the smallest step of a look
CROPS = 8  # of training photographs, to choose by
Figures = dict[str, Any]


@dataclass(frozen=True)
class Scope:
    """What is measured: sides in pixels, pictures by name (`judged`: for prompts), how many seeds and frames.

    noise: seed of the diffusion noise; every picture adds its place among the pictures. crops: in the place of held-out
    photographs, so many crops of training photographs.
    """

    side: int = 512
    names: tuple[str, ...] = NAMES
    judged: tuple[str, ...] = (*NAMES, *MORE)
    strength: float = 0.5
    judged_at: float = 0.6
    seeds: int = 3
    frames: int = 6
    dream_side: int = 256
    noise: int = 90_210
    crops: int = 0


CHOOSING = Scope(noise=40_000, crops=CROPS)


@dataclass(frozen=True)
class Subject:
    """The model under test with its vocabulary."""

    model: Denoiser
    vae: CosineAutoencoder
    looks: tuple[Word, ...]
    scenes: tuple[Word, ...]


def subject(folder: Path) -> Subject:
    """The model of a folder; looks and scenes that this code has no teacher for are left out."""
    from training.export import load

    listed = read_vocabulary(folder)
    model, vae = load(folder)
    known = tuple(word for word in listed.looks if word.name in LOOKS)
    return Subject(model, vae, known, tuple(word for word in listed.scenes if word.name in scenes.SUBJECTS))


def held_out(scope: Scope, names: tuple[str, ...] | None = None) -> dict[str, Tensor]:
    """Evaluation photographs as squares of the scope's side: its `names`, or others; or the crops to choose by, half of them
    where `names` is None.
    """
    if scope.crops:
        rng = Generator().manual_seed(scope.noise)
        crops = [photographs.crops(1, scope.side, rng) for _ in range(scope.crops)]
        return {f"crop {k}": crop for k, crop in enumerate(crops[: None if names else -(-scope.crops // 2)])}
    found = photographs.held_out()
    return {name: photographs.square(found[name], scope.side) for name in names or scope.names if name in found}


def evaluate_autoencoder(vae: CosineAutoencoder, smallest: int = 300) -> dict[str, float]:
    """PSNR in dB per held-out picture whose shorter side has at least `smallest` pixels, at native size."""
    found = {k: v for k, v in photographs.held_out().items() if min(v.shape[-2:]) >= smallest}
    return {name: round(psnr(vae, x.to(vae.latent_mean)), 2) for name, x in found.items()}


def evaluate_looks(tested: Subject, scope: Scope, steps: int) -> dict[str, Figures]:
    """Per look: ssim, colour, structure (means over pictures), flicker (on the first picture)."""
    found: dict[str, Figures] = {}
    sources = held_out(scope)
    for look in tested.looks:
        rows = []
        for k, x in enumerate(sources.values()):
            target = teacher(x, Request(look.name))
            y = paint(tested.model, tested.vae, x, [look.prompt], scope.strength, seed=scope.noise + k, steps=steps)
            rows.append((measures.ssim(y, target), measures.histogram_distance(y, target), measures.structure(x, target, y)))
        still = measures.noisy_pair(next(iter(sources.values())))
        shown = [paint(tested.model, tested.vae, x, [look.prompt], scope.strength, scope.noise, steps) for x in still]
        kept = [row[2] for row in rows if row[2] is not None]
        found[look.name] = {
            "ssim": _mean([row[0] for row in rows]),
            "colour": _mean([row[1] for row in rows]),
            "structure": _mean(kept) if kept else None,
            "flicker": round(measures.difference_ratio((shown[0], shown[1]), still), 3),
        }
    return found


def evaluate_prompts(tested: Subject, judge: Classifier, scope: Scope, steps: int) -> Figures:
    """Accuracy over and per look at the judged strength, confusions, feature distance and sharpness against the teacher."""
    right: dict[str, float] = {}
    confusions: dict[str, int] = {}
    painted, taught, ratios = [], [], []
    sources = held_out(scope, scope.judged)
    for look in (look for look in tested.looks if look.name in judge.names):
        outputs = [
            paint(tested.model, tested.vae, x, [look.prompt], scope.judged_at, seed=scope.noise + k, steps=steps)
            for k, x in enumerate(sources.values())
        ]
        targets = [teacher(x, Request(look.name)) for x in sources.values()]
        found = [classifier.predicted(judge, y)[0] for y in outputs]
        right[look.name] = round(sum(name == look.name for name in found) / len(found), 3)
        for name in found:
            if name != look.name:
                confusions[f"{look.name} as {name}"] = confusions.get(f"{look.name} as {name}", 0) + 1
        painted += [_features(judge, y) for y in outputs]
        taught += [_features(judge, y) for y in targets]
        ratios.append(sum(map(measures.sharpness, outputs)) / max(1e-6, sum(map(measures.sharpness, targets))))
    return {
        "accuracy": _mean(list(right.values())),
        "worst": min(right.values()),
        "per_look": right,
        "confusions": dict(sorted(confusions.items(), key=lambda entry: -entry[1])),
        "frechet": round(classifier.frechet(torch.cat(painted), torch.cat(taught)), 3),
        "sharpness": _mean(ratios),
    }


def evaluate_clip(tested: Subject, scope: Scope, steps: int, path: Path = CLIP) -> float | None:
    """Difference between following frames over that of the teacher's, mean over looks; None without the clip."""
    frames = _frames(path, scope.frames, scope.side)
    if len(frames) < 2:
        return None
    ratios = []
    for look in tested.looks[:: max(1, len(tested.looks) // 6)]:
        taught = [teacher(x, Request(look.name)) for x in frames]
        shown = [paint(tested.model, tested.vae, x, [look.prompt], scope.strength, scope.noise, steps) for x in frames]
        moved, meant = (sum(float((b - a).abs().mean()) for a, b in pairwise(row)) for row in (shown, taught))
        ratios.append(moved / max(1e-6, meant))
    return _mean(ratios)


def evaluate_scenes(tested: Subject, judge: Classifier, scope: Scope, steps: int) -> Figures | None:
    """Text to image: accuracy, distance and spread of features against fresh scenes; None if none is known."""
    known = [scene for scene in tested.scenes if scene.name in judge.names]
    if not known:
        return None
    right, large, drawn, real, spreads = {}, [], [], [], []
    rng = Generator().manual_seed(71)
    for k, scene in enumerate(known):
        seed = scope.noise + k
        prompts = [scene.prompt] * scope.seeds
        y = imagine(tested.model, tested.vae, prompts, scope.side, seed=seed, steps=steps)
        large += [name == scene.name for name in classifier.predicted(judge, classifier.subject_input(y))]
        y = imagine(tested.model, tested.vae, prompts, scope.dream_side, seed=seed, steps=steps)
        fresh = scenes.scene(scope.seeds, scope.dream_side, rng, (scene.name,))[0]
        small = classifier.subject_input(y)
        right[scene.name] = round(sum(name == scene.name for name in classifier.predicted(judge, small)) / scope.seeds, 3)
        drawn.append(_features(judge, small))
        real.append(_features(judge, classifier.subject_input(fresh)))
        spreads.append(measures.spread(drawn[-1]) / max(1e-6, measures.spread(real[-1])))
    return {
        "accuracy": _mean(list(right.values())),
        "worst": min(right.values()),
        "large": round(sum(large) / len(large), 3),
        "per_subject": right,
        "frechet": round(classifier.frechet(torch.cat(drawn), torch.cat(real)), 3),
        "diversity": _mean(spreads),
    }


def evaluate(tested: Subject, scope: Scope, steps: tuple[int, ...]) -> Figures:
    """All figures, by number of steps; the classifiers' own accuracies on held-out teacher outputs beside them."""
    looks_judge = classifier.load(classifier.FOLDER / "classifier_looks.safetensors")
    scene_judge = classifier.load(classifier.FOLDER / "classifier_subjects.safetensors")
    exams = (looks_judge, classifier.examine_looks(looks_judge)), (scene_judge, classifier.examine_subjects(scene_judge))
    figures: Figures = {
        "autoencoder_psnr": evaluate_autoencoder(tested.vae),
        "classifiers": {
            name: {
                "accuracy": round(classifier.accuracy(table), 4),
                "mistakes": [list(mistake) for mistake in classifier.mistakes(judge.names, table)],
            }
            for name, (judge, table) in zip(("looks", "subjects"), exams, strict=True)
        },
        "steps": {},
    }

    def column(count: int) -> Figures:
        return {
            "looks": evaluate_looks(tested, scope, count),
            "prompts": evaluate_prompts(tested, looks_judge, scope, count),
            "clip": evaluate_clip(tested, scope, count),
            "scenes": evaluate_scenes(tested, scene_judge, scope, count),
        }

    with ThreadPoolExecutor(2) as pool:  # see training.loop; the longest first
        found = dict(zip(sorted(steps, reverse=True), pool.map(column, sorted(steps, reverse=True)), strict=True))
    figures["steps"] = {str(count): found[count] for count in steps}
    return figures


def _features(judge: Classifier, x: Tensor) -> Tensor:
    with torch.no_grad():
        return judge.features(x)


def _frames(path: Path, count: int, side: int) -> list[Tensor]:
    """Following frames from the middle of a clip, as squares."""
    clip = cv2.VideoCapture(str(path))
    clip.set(cv2.CAP_PROP_POS_FRAMES, clip.get(cv2.CAP_PROP_FRAME_COUNT) // 2)
    frames: list[Tensor] = []
    while len(frames) < count:
        read, pixels = clip.read()
        if not read:
            break
        x = torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
        frames.append(photographs.square(x, side))
    clip.release()
    return frames


def _mean(values: list[float]) -> float:
    return round(sum(values) / max(1, len(values)), 3)


def summary(figures: Figures) -> str:
    """One row per number of steps, as Markdown."""
    rows = {
        "SSIM with the teacher": lambda f: _over(f, "ssim"),
        "colour distance": lambda f: _over(f, "colour"),
        "prompt accuracy, strength 0.6": lambda f: f["prompts"]["accuracy"],
        "worst look": lambda f: f["prompts"]["worst"],
        "Frechet distance to the teacher": lambda f: f["prompts"]["frechet"],
        "sharpness (teacher 1)": lambda f: f["prompts"]["sharpness"],
        "structure, strength 0.5": lambda f: _over(f, "structure"),
        "flicker, still scene": lambda f: _over(f, "flicker"),
        "movement, clip (teacher 1)": lambda f: f["clip"],
        "text to image accuracy, 256 x 256": lambda f: f["scenes"] and f["scenes"]["accuracy"],
        "the same, 512 x 512": lambda f: f["scenes"] and f["scenes"].get("large"),
        "Frechet distance to scenes": lambda f: f["scenes"] and f["scenes"]["frechet"],
        "diversity (scenes 1)": lambda f: f["scenes"] and f["scenes"]["diversity"],
    }
    columns = figures["steps"]
    lines = ["| steps | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, read in rows.items():
        lines.append(f"| {name} | " + " | ".join(_shown(read(column)) for column in columns.values()) + " |")
    return "\n".join(lines)


def by_look(figures: Figures) -> str:
    """One row per look for the smallest number of steps, as Markdown."""
    first = next(iter(figures["steps"].values()))
    lines = ["| look | SSIM | colour | structure | flicker | accuracy |", "|---|---|---|---|---|---|"]
    for look, row in first["looks"].items():
        values = [row["ssim"], row["colour"], row["structure"], row["flicker"], first["prompts"]["per_look"].get(look)]
        lines.append(f"| {look} | " + " | ".join(map(_shown, values)) + " |")
    return "\n".join(lines)


def _over(column: Figures, key: str) -> float | None:
    values = [row[key] for row in column["looks"].values() if row[key] is not None]
    return _mean(values) if values else None


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def write_sample(tested: Subject, path: Path, scope: Scope) -> None:
    """One row per picture: the source and eight looks at one step, to view beside the figures."""
    chosen = tested.looks[:8]
    rows = []
    for x in list(held_out(scope).values())[:3]:
        outputs = paint(tested.model, tested.vae, x.expand(len(chosen), -1, -1, -1), [k.prompt for k in chosen], scope.strength)
        rows.append(torch.cat([x, outputs]))
    pictures.save_rows(path, rows)


def main() -> None:
    from training.export import weight_bytes

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("assets/pocket"), help="a folder that training.export wrote")
    parser.add_argument("--output", type=Path, help="folder for figures.json, figures.md and sample.png; else only printed")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--side", type=int, default=Scope.side, help="a multiple of 64")
    parser.add_argument("--names", nargs="+", help="held-out photographs, instead of all")
    parser.add_argument("--looks", nargs="+", help="only these looks, for a quick check")
    parser.add_argument("--seeds", type=int, default=Scope.seeds, help="pictures per scene")
    parser.add_argument("--choosing", action="store_true", help="crops of training photographs and other noise, to choose by")
    args = parser.parse_args()
    torch.set_num_threads(1)  # see training.loop
    torch.set_flush_denormal(True)
    tested = subject(args.weights)
    if args.looks:
        tested = Subject(tested.model, tested.vae, tuple(k for k in tested.looks if k.name in args.looks), tested.scenes)
    scope = dataclasses.replace(CHOOSING if args.choosing else Scope(), side=args.side, seeds=args.seeds)
    if args.names:
        scope = dataclasses.replace(scope, names=tuple(args.names), judged=tuple(args.names))
    figures = {"weight_bytes": weight_bytes(args.weights), **evaluate(tested, scope, tuple(args.steps))}
    tables = f"{summary(figures)}\n\n{by_look(figures)}\n"
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
        (args.output / "figures.md").write_text(tables)
        write_sample(tested, args.output / "sample.png", scope)
    print(tables)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
