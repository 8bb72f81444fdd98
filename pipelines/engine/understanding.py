"""From the words of settings to what the networks take of them, and what is said of that to who typed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pipelines.checkpoints.loader.chunks import Length
from pipelines.checkpoints.loader.embeddings import Embedding
from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.techniques import feature_cache
from pipelines.techniques.free_words.reader import Reading, Understood
from pipelines.techniques.prompt_syntax import Unsupported
from pipelines.values.settings import Settings
from pipelines.values.style_names import StyleNames

NO_LORA = "no LoRA of this name is loaded; the folder of --lora-folder has none, or there is no such folder"

TYPED = ("prompt", "prompt_b", "negative")
"""The settings that hold a prompt."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A prompt that is longer than the text encoder's context of so many tokens: what of it counts, and what does not."""

    tokens: int
    kept: str
    lost: str

    @property
    def message(self) -> str:
        return f"the prompt is cut after {self.tokens} tokens: {self.lost!r} is not read"


@dataclass(frozen=True, slots=True)
class Understanding:
    """What became of the prompts of some settings; keys are the settings' names, of those that are not empty. idle: settings that
    are on and do nothing with this model, and why."""

    readings: Mapping[str, Reading]
    cuts: Mapping[str, Cut]
    unsupported: Mapping[str, tuple[Unsupported, ...]]
    idle: Mapping[str, str] = field(default_factory=dict)

    def listed(self) -> dict[str, list[dict[str, object]]]:
        """understood, unknown, cut, and idle if there is any, as JSON has them; see docs/protocol-messages.md."""
        readings = self.readings.items()
        idle: list[dict[str, object]] = [{"setting": key, "message": why} for key, why in self.idle.items()]
        return ({"idle": idle} if idle else {}) | {
            "understood": [{"setting": key, **asdict(one)} for key, reading in readings for one in reading.understood],
            "unknown": [
                *(
                    {"setting": key, "words": one.words, "nearest": one.nearest, "message": one.message}
                    for key, reading in readings
                    for one in reading.unknown
                ),
                *(
                    {"setting": key, "words": one.words, "nearest": None, "message": one.message}
                    for key, ones in self.unsupported.items()
                    for one in ones
                ),
            ],
            "cut": [{"setting": key, **asdict(cut), "message": cut.message} for key, cut in self.cuts.items()],
        }


def understand(
    parts: ModelParts, length: Callable[[str], Length], settings: Settings, names: StyleNames, partial: str | None = None
) -> Understanding:
    """How a model reads the prompts of these settings. length: of a text, as `Texts.length`. names: styles that they may name.
    partial: why partial frames do nothing. Any thread; takes milliseconds."""
    readings: dict[str, Reading] = {}
    cuts, unsupported = {}, {}
    for key in TYPED:
        if not (words := " ".join(getattr(settings, key).split())):
            continue
        rest, named = parts.read_names(words, names) if len(names) and key != "negative" else (words, ())
        styles = (tuple(style for _, style in named),) if named else ()
        read = parts.read_prompt(rest, *styles)[0]
        parsed = parts.parse_prompt(read)
        text, whole = parsed.plain, length(read)
        if whole.cut is not None:
            tokens = whole.chunks * parts.embedding_shape[0]
            cuts[key] = Cut(tokens, text[: whole.cut].rstrip(), text[whole.cut :])
        reading = parts.read_words(rest) if rest else Reading("")
        found = [Understood(typed, style.name, "style", "name") for typed, style in named]
        vectors = parts.embeddings.named(text)
        found += [Understood(one.words[0], _counted(one), "embedding", "name") for one in vectors if one.problem is None]
        refused = [Unsupported(one.words[0], one.problem) for one in vectors if one.problem is not None]
        loaded = {Path(lora.name).stem.lower() for lora in parts.loras}
        for tag in parsed.loras:
            if tag.name.lower() in loaded:
                found.append(Understood(tag.words, f"weight {tag.weight:g}", "lora", "name"))
            else:
                refused.append(Unsupported(tag.words, NO_LORA))
        unsupported[key] = (*parsed.unsupported, *refused)
        readings[key] = replace(reading, understood=(*found, *reading.understood)) if found else reading
    reasons = {
        "cache.reuse": feature_cache.idle(settings, parts.schedule.prediction),
        "partial.enabled": None if partial is None else f"every frame is computed as a whole: {partial}",
    }
    return Understanding(readings, cuts, unsupported, {key: why for key, why in reasons.items() if why is not None})


def _counted(one: Embedding) -> str:
    return f"{one.count} vector{'s' if one.count > 1 else ''}"
