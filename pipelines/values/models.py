"""What a model's entry says: where its parts lie, what a user should know of it. Types only; the entries are in registry.py."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipelines.values.types import ModelError
from pipelines.values.vocabulary import Vocabulary, read_vocabulary

ASSETS = Path(__file__).resolve().parents[2] / "assets"
SEGMENT = r"(?!\.{1,2}(?:/|@|$))[A-Za-z0-9._-]{1,96}"
REVISION = r"[A-Za-z0-9._-]{1,64}"
HUB_ID = re.compile(rf"({SEGMENT}/{SEGMENT})(?:@({REVISION}))?")


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository of the Hugging Face hub at a commit, or one file of it. revision None is its main branch.

    Raises ModelError for names that are none, or lead out of the repository.
    """

    repo: str
    revision: str | None = None
    file: str = ""

    def __post_init__(self) -> None:
        found = HUB_ID.fullmatch(self.repo)
        if found is None or found[2] is not None:
            raise ModelError(f"{self.repo!r} is not the id of a hub repository, owner/name")
        pure = PurePosixPath(self.file)
        if pure.is_absolute() or ".." in pure.parts or "\\" in self.file:
            raise ModelError(f"{self.repo}: {self.file!r} leads out of the repository")

    def __str__(self) -> str:
        return f"{self.repo}/{self.file}" if self.file else self.repo


Place = Path | Hub
"""Where a checkpoint or a part of it lies: on this machine (folder or file), or on the hub."""


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA that is fused into the weights when they are loaded; strength 1 is as trained."""

    place: Place
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class PictureAdapter:
    """An adapter for picture prompts (IP-Adapter): its file or folder, and the folder of its picture encoder."""

    weights: Place
    encoder: Place


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is loaded, and what a user should know before choosing it.

    base: folder in the diffusers layout, or a single .safetensors file. unet, autoencoder: replace the base's. loras: fused at
    load. control: a ControlNet; picture: an adapter for picture prompts. prediction: overrides the scheduler's configuration.
    shift: the share of the timestep that the network is told. trained_timesteps: the only ones it was trained at, () for all.
    native_size in pixels; max_steps that make sense; guidance_trained: whether prompts were dropped in training, without which
    guidance makes noise; advice: on guidance and strength; examples: prompts that work, where the folder has no list of looks;
    source: where these facts are from. licence_seen: whether the licence was found on the hub's own pages of every part.
    """

    name: str
    title: str
    base: Place
    licence: str
    family: str = ""
    native_size: int = 512
    max_steps: int = 4
    guidance_trained: bool = True
    trained_timesteps: tuple[int, ...] = ()
    examples: tuple[str, ...] = ()
    prediction: str | None = None
    shift: float = 1.0
    unet: Place | None = None
    autoencoder: Place | None = None
    loras: tuple[Lora, ...] = ()
    control: Place | None = None
    picture: PictureAdapter | None = None
    advice: str = ""
    source: str = ""
    licence_seen: bool = False

    @property
    def unpinned(self) -> tuple[str, ...]:
        """The fields of parts on the hub of which no commit is known, so that its main branch is taken."""
        parts = ((name, getattr(self, name)) for name in ("base", "unet", "autoencoder"))
        return tuple(name for name, place in parts if isinstance(place, Hub) and place.revision is None)

    @property
    def vocabulary(self) -> Vocabulary:
        """Looks, modifiers and scenes that the model's folder lists; read when asked for. ModelError for a bad list."""
        return read_vocabulary(self.base) if isinstance(self.base, Path) else Vocabulary()

    @property
    def prompts(self) -> tuple[str, ...]:
        """A prompt for each look, painted ones included, or the examples."""
        listed = self.vocabulary
        return tuple(word.prompt for word in (*listed.looks, *listed.painted)) or self.examples


@dataclass(frozen=True, slots=True)
class Extra:
    """A part that may be added to a model by name. kind: lora, autoencoder, control (a ControlNet) or picture (an adapter for
    picture prompts, whose picture encoder is `encoder`)."""

    name: str
    title: str
    kind: str
    place: Place
    licence: str
    families: tuple[str, ...]
    max_steps: int | None = None
    source: str = ""
    encoder: Place | None = None
    licence_seen: bool = False
