"""Which models Rill knows by name. Data, not code: the loader reads what is in the folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ASSETS = Path(__file__).resolve().parent.parent / "assets"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a user should know before choosing a model.

    native_size in pixels; max_steps that make sense; guidance_trained: whether prompts were dropped in training, without which
    guidance makes noise; prompts: examples that work.
    """

    name: str
    title: str
    path: Path
    licence: str
    native_size: int = 512
    max_steps: int = 4
    guidance_trained: bool = True
    trained_timesteps: tuple[int, ...] = ()
    prompts: tuple[str, ...] = ()


POCKET = ModelInfo(
    name="pocket",
    title="Pocket: the small model that ships with Rill",
    path=ASSETS / "pocket",
    licence="Apache-2.0",
    prompts=(
        "oil painting",
        "pencil sketch",
        "neon outlines",
        "cartoon",
        "thermal camera",
        "blueprint",
        "watercolour",
        "pixel art",
        "halftone comic",
        "engraving",
        "night vision",
        "vintage photo",
        "vaporwave",
        "stone relief",
        "photo",
    ),
)

REGISTRY: dict[str, ModelInfo] = {POCKET.name: POCKET}


def describe(name: str) -> ModelInfo:
    """The registered model of that name, or a plain entry for a local folder. Never touches the disk."""
    if name in REGISTRY:
        return REGISTRY[name]
    return ModelInfo(name=Path(name).name, title=f"Local folder {Path(name).name}", path=Path(name), licence="unknown")
