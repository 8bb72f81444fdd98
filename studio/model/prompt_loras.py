"""<lora:NAME:WEIGHT> in prompts: LoRAs of the open folders, by the names of their files. Pure, but for listing a folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path

from pipelines import LoraTag, LoraUse, Settings, SpecError, lora_tags
from studio.wire.protocol import ProtocolError


def lora_files(folders: Iterable[Path]) -> list[str]:
    """The LoRA files below these folders."""
    return [str(path) for folder in folders for path in sorted(folder.rglob("*.safetensors"))]


def tags_of(settings: Settings) -> dict[str, LoraTag]:
    """The tags of all prompts by name in small letters; of several tags of one name the last."""
    prompts = (settings.prompt, settings.prompt_b, settings.negative)
    return {tag.name.lower(): tag for prompt in prompts for tag in lora_tags(prompt)}


def tagged(
    present: Iterable[LoraUse], settings: Settings, files: Iterable[str], earlier: Collection[str] = ()
) -> tuple[LoraUse, ...]:
    """The LoRAs of a spec with those that prompts name. files: that may be named, by path. earlier: paths that prompts have named
    before; they go when no prompt names them any more."""
    paths: dict[str, str] = {}
    for path in files:
        paths.setdefault(Path(path).stem.lower(), path)
    weights = {paths[name]: tag.weight for name, tag in tags_of(settings).items() if name in paths}
    kept = [use for use in present if use.name in weights or use.name not in earlier]
    there = [replace(use, weight=weights.get(use.name, use.weight)) for use in kept]
    known = {use.name for use in there}
    return (*there, *(LoraUse(path, weight) for path, weight in weights.items() if path not in known))


class PromptLoras:
    """What the prompts of one connection have named so far."""

    def __init__(self) -> None:
        self._named: set[str] = set()
        self._tags: dict[str, LoraTag] = {}

    def wanted(
        self, present: tuple[LoraUse, ...], settings: Settings, files: Callable[[], Collection[str]]
    ) -> tuple[LoraUse, ...] | None:
        """The LoRAs of the spec that these settings ask for; None for the present ones. files: as in `tagged`; called only where
        prompts name other LoRAs than at the call before, so that what was refused is refused once. Raises ProtocolError."""
        tags = tags_of(settings)
        if tags == self._tags:
            return None
        self._tags = tags
        there = files()
        try:
            wanted = tagged(present, settings, there, self._named)
        except SpecError as error:
            raise ProtocolError(str(error), code="bad_spec", field="loras") from error
        self._named = {path for path in there if Path(path).stem.lower() in tags}
        return None if wanted == present else wanted
