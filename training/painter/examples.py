"""Styles of public-domain paintings that ship as files (assets/pocket/styles): which paintings, and what they are called.

Names describe what is visible, or name the movement.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.checkpoints.naming import describe
from studio.files.fit import fit_file
from training.painter.source import Source

EXAMPLES = {
    "the-great-wave-off-kanagawa": "woodblock wave",
    "church-at-auvers": "cobalt sky and ochre path",
    "cafe-terrace-at-night": "lamplit night terrace",
    "the-night-cafe": "red and green lamplight",
    "harvest-at-la-crau": "golden plain",
    "composition-viii": "geometric abstraction",
    "bal-du-moulin-de-la-galette": "dappled shade impression",
}
"""Painting of the manifest -> name of its style. None of them is held out."""


def fit(sources: list[Source], folder: Path, model: Path, target: Path) -> None:
    """Writes target/NAME.safetensors of each; what is there is kept. folder: where the sources lie."""
    target.mkdir(parents=True, exist_ok=True)
    parts = ModelParts(describe(str(model)))
    for painting, name in EXAMPLES.items():
        path = target / f"{name.replace(' ', '-')}.safetensors"
        (source,) = [source for source in sources if source.name == painting]
        if source.held_out:
            raise ValueError(f"{painting}: is held out")
        if not path.exists():
            origin = f"{source.author}: {painting.replace('-', ' ')}; {source.package} {source.version}, {source.file}"
            made = fit_file(parts, folder / source.path, path, name, origin[:300], "public domain")
            print(f"{path}: {made.fitted} steps", flush=True)
