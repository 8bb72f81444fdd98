"""The two files of a render or of a transfer: pictures with their times come out of one, and go with its sound into the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import media


@dataclass(frozen=True, slots=True)
class FileOptions:
    """How files are read and written. audio: the sound goes along where the output can hold it."""

    reading: media.ReadOptions = media.AS_IT_IS
    audio: bool = True


class Exchange:
    """Opens both files. Raises MediaError. After `close` the facts are complete."""

    def __init__(self, source: Path, target: Path, width: int, height: int, options: FileOptions) -> None:
        self._path = source
        self.source = media.open_source(source, width, height, options.reading)
        sound = None if source.is_dir() or self.source.count == 1 else media.Sound.of(source, self.source.start)
        self._sound, self._left_out = sound, None
        if sound is not None and not (options.audio and media.takes_sound(target)):
            self._left_out = f"left out: {'--no-audio' if not options.audio else f'{target.name} cannot hold it'}"
            sound.close()
            sound = None
        self.writer = media.open_writer(target, self.source.fps, width, height, sound)

    def close(self) -> None:
        """Finishes the output."""
        self.writer.close()

    def facts(self) -> dict[str, Any]:
        """Keys of the closing JSON object. sound: what became of it, null if there was none; damaged: how the input is broken,
        null if it is whole; notes: what else was left out."""
        damage = [text for text in (self.source.damage, self._sound.damage if self._sound else None) if text is not None]
        notes = [*self.source.notes, *self.writer.notes]
        if self._sound is not None and self._sound.tracks > 1 and self.writer.sound is not None:
            notes.append(f"of {self._sound.tracks} sound tracks one is used")
        return {"sound": self._left_out or self.writer.sound, "damaged": "; ".join(damage) or None, "notes": notes}


def warnings(path: Path, facts: dict[str, Any]) -> list[str]:
    """Lines for stderr: what the user has to know about an input although it was used."""
    damaged = [f"{path}: is damaged: {facts['damaged']}"] if facts["damaged"] else []
    return [*damaged, *(f"{path}: {note}" for note in facts["notes"])]
