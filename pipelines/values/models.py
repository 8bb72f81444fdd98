"""Types of a model's entry: the locations of its parts, and the facts for a user. The entries are in registry.py."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipelines.values.presets import Preset, read_presets
from pipelines.values.types import ModelError
from pipelines.values.vocabulary import Vocabulary, read_vocabulary

ASSETS = Path(__file__).resolve().parents[2] / "assets"
SEGMENT = r"(?!\.{1,2}(?:/|@|$))[A-Za-z0-9._-]{1,96}"
REVISION = r"[A-Za-z0-9._-]{1,64}"
HUB_ID = re.compile(rf"({SEGMENT}/{SEGMENT})(?:@({REVISION}))?")


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository of the Hugging Face hub at a commit, or one file of it. revision None is its main branch.

    Raises ModelError for an invalid name, or for a file outside the repository.
    """

    repo: str
    revision: str | None = None
    file: str = ""

    def __post_init__(self) -> None:
        found = HUB_ID.fullmatch(self.repo)
        if found is None or found[2] is not None:
            raise ModelError(f"{self.repo!r} is not the id of a hub repository (owner/name)")
        pure = PurePosixPath(self.file)
        if pure.is_absolute() or ".." in pure.parts or "\\" in self.file:
            raise ModelError(f"{self.repo}: {self.file!r} leads out of the repository")

    def __str__(self) -> str:
        return f"{self.repo}/{self.file}" if self.file else self.repo


Location = Path | Hub
"""The location of a checkpoint or of a part of it: on this machine (folder or file), or on the hub."""


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA that is fused into the weights at load; strength 1 is as trained."""

    location: Location
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class Control:
    """A network that makes the picture follow a map: a ControlNet, a ControlNet Union or a T2I-Adapter. map: the kind of map, one
    of settings.MAPS; None is that of the live setting. weight: factor of the live setting's scale."""

    location: Location
    map: str | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class PictureAdapter:
    """An adapter for picture prompts (IP-Adapter): its file or folder, and the folder of its picture encoder."""

    weights: Location
    encoder: Location


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The parts of a model, and the facts that a user needs to choose it.

    base: folder in the diffusers layout, or a single .safetensors file. unet, autoencoder: replace the base's. loras: fused at
    load. controls: ControlNets or T2I-Adapters; picture: an adapter for picture prompts. embeddings: textual inversions, files or
    folders. prediction: overrides the scheduler's configuration.
    shift: factor of the timestep that the network gets as input. trained_timesteps: the only trained ones, () for all.
    native_size: in pixels. max_steps: the useful maximum. guidance_trained: whether training dropped prompts; without that,
    guidance makes noise. guidance: the scale that a stream begins with, None for the setting's own default. advice: on guidance
    and strength. examples: prompts, if the folder has no list of looks. source: of these facts. licence_confirmed: whether the
    hub's own pages of every part show the licence.
    """

    name: str
    title: str
    base: Location
    licence: str
    family: str = ""
    native_size: int = 512
    max_steps: int = 4
    guidance_trained: bool = True
    guidance: float | None = None
    trained_timesteps: tuple[int, ...] = ()
    examples: tuple[str, ...] = ()
    prediction: str | None = None
    shift: float = 1.0
    unet: Location | None = None
    autoencoder: Location | None = None
    loras: tuple[Lora, ...] = ()
    controls: tuple[Control, ...] = ()
    picture: PictureAdapter | None = None
    embeddings: tuple[Location, ...] = ()
    advice: str = ""
    source: str = ""
    licence_confirmed: bool = False

    @property
    def unpinned(self) -> tuple[str, ...]:
        """The fields whose parts on the hub have no commit, so the main branch is used."""
        parts = ((name, getattr(self, name)) for name in ("base", "unet", "autoencoder"))
        return tuple(name for name, place in parts if isinstance(place, Hub) and place.revision is None)

    @property
    def distilled(self) -> bool:
        """Whether the weights may be other ones than those that the base's scheduler is for: distilled to few steps, with a LoRA,
        or with another UNet."""
        return bool(self.loras or self.unet or self.trained_timesteps or not self.guidance_trained)

    @property
    def vocabulary(self) -> Vocabulary:
        """Looks, modifiers and scenes of the model's folder, read on first use. Raises ModelError for a bad list."""
        return read_vocabulary(self.base) if isinstance(self.base, Path) else Vocabulary()

    @property
    def presets(self) -> tuple[Preset, ...]:
        """Named settings of the speed, from the model's folder. Raises ModelError for a bad file."""
        return read_presets(self.base) if isinstance(self.base, Path) and self.base.is_dir() else ()

    @property
    def takes_pictures(self) -> bool:
        """Whether picture prompts have an effect: by an adapter, or as a style of the painter."""
        return self.picture is not None or self.vocabulary.pictures

    @property
    def prompts(self) -> tuple[str, ...]:
        """A prompt for each look, painted ones included, or the examples."""
        listed = self.vocabulary
        return tuple(word.prompt for word in (*listed.looks, *listed.painted)) or self.examples


@dataclass(frozen=True, slots=True)
class Extra:
    """A part that can be added to a model by name. kind: lora, autoencoder, control (a ControlNet) or picture (an adapter for
    picture prompts, whose picture encoder is `encoder`)."""

    name: str
    title: str
    kind: str
    location: Location
    licence: str
    families: tuple[str, ...]
    max_steps: int | None = None
    source: str = ""
    encoder: Location | None = None
    licence_confirmed: bool = False
