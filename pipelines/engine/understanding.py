"""From the words of settings to what the networks take of them, and what is said of that to who typed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pipelines.checkpoints.loader.chunks import Length
from pipelines.checkpoints.loader.embeddings import Embedding
from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.techniques import feature_cache, regions
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
class Text:
    """One text of a prompt: the setting that holds it, and the region that it is for, None for the whole picture."""

    setting: str
    region: str | None = None

    def entry(self, **fields: object) -> dict[str, object]:
        """An entry about it as JSON has it."""
        return {"setting": self.setting, **({"region": self.region} if self.region else {}), **fields}


@dataclass(frozen=True, slots=True)
class Understanding:
    """What became of the prompts of some settings, by their texts, of those that are not empty. idle: settings that are on and do
    nothing, or not what they seem to, and why."""

    readings: Mapping[Text, Reading]
    cuts: Mapping[Text, Cut]
    unsupported: Mapping[Text, tuple[Unsupported, ...]]
    idle: Mapping[str, str] = field(default_factory=dict)

    def listed(self) -> dict[str, list[dict[str, object]]]:
        """understood, unknown, cut, and idle if there is any, as JSON has them; see docs/protocol-messages.md."""
        readings = self.readings.items()
        idle: list[dict[str, object]] = [{"setting": key, "message": why} for key, why in self.idle.items()]
        return ({"idle": idle} if idle else {}) | {
            "understood": [text.entry(**asdict(one)) for text, reading in readings for one in reading.understood],
            "unknown": [
                *(
                    text.entry(words=one.words, nearest=one.nearest, message=one.message)
                    for text, reading in readings
                    for one in reading.unknown
                ),
                *(
                    text.entry(words=one.words, nearest=None, message=one.message)
                    for text, ones in self.unsupported.items()
                    for one in ones
                ),
            ],
            "cut": [text.entry(**asdict(cut), message=cut.message) for text, cut in self.cuts.items()],
        }


class Reader:
    """Reads the texts of a model's prompts. length: of a text, as `Texts.length`. names: styles that they may name."""

    def __init__(self, parts: ModelParts, length: Callable[[str], Length], names: StyleNames) -> None:
        self._parts, self._length, self._names = parts, length, names
        self._loras = {Path(lora.name).stem.lower() for lora in parts.loras}

    def read(self, words: str, may_name: bool) -> tuple[Reading, tuple[Unsupported, ...], Cut | None]:
        """How a text is read, its syntax that is not supported, and where it is cut."""
        parts = self._parts
        rest, named = parts.read_names(words, self._names) if len(self._names) and may_name else (words, ())
        styles = (tuple(style for _, style in named),) if named else ()
        read = parts.read_prompt(rest, *styles)[0]
        parsed = parts.parse_prompt(read)
        reading = parts.read_words(rest) if rest else Reading("")
        found = [Understood(typed, style.name, "style", "name") for typed, style in named]
        vectors = parts.embeddings.named(parsed.plain)
        found += [Understood(one.words[0], _counted(one), "embedding", "name") for one in vectors if one.problem is None]
        refused = [Unsupported(one.words[0], one.problem) for one in vectors if one.problem is not None]
        for tag in parsed.loras:
            if tag.name.lower() in self._loras:
                found.append(Understood(tag.words, f"weight {tag.weight:g}", "lora", "name"))
            else:
                refused.append(Unsupported(tag.words, NO_LORA))
        reading = replace(reading, understood=(*found, *reading.understood)) if found else reading
        return reading, (*parsed.unsupported, *refused), self._cut(read, parsed.plain)

    def _cut(self, read: str, text: str) -> Cut | None:
        whole = self._length(read)
        if whole.cut is None:
            return None
        return Cut(whole.chunks * self._parts.embedding_shape[0], text[: whole.cut].rstrip(), text[whole.cut :])


def understand(
    parts: ModelParts,
    length: Callable[[str], Length],
    settings: Settings,
    names: StyleNames,
    waiting: Mapping[str, str | None] | None = None,
) -> Understanding:
    """How a model reads the prompts of these settings. length: of a text, as `Texts.length`. names: styles that they may name.
    waiting: by setting, why it does nothing with this pipeline; None where it acts. Any thread; takes milliseconds."""
    reader, readings, unsupported = Reader(parts, length, names), {}, {}
    cuts: dict[Text, Cut] = {}
    for text, typed in _texts(settings):
        if words := " ".join(typed.split()):
            readings[text], unsupported[text], cut = reader.read(words, text.setting != "negative")
            cuts |= {} if cut is None else {text: cut}
    idle = {
        "cache.reuse": feature_cache.idle(settings, parts.schedule.prediction),
        **(waiting or {}),
        **_remarks(settings),
    }
    return Understanding(readings, cuts, unsupported, {key: why for key, why in idle.items() if why is not None})


def _texts(settings: Settings) -> list[tuple[Text, str]]:
    """All texts that the prompts hold: of a composed one its parts. A part with a weight has its number as a name."""
    composed = regions.of(settings)
    found = [(Text("prompt", part.region or str(number)), part.text) for number, part in enumerate(composed, 1)]
    return [*found, *((Text(key), getattr(settings, key)) for key in TYPED if not (composed and key == "prompt"))]


def _remarks(settings: Settings) -> dict[str, str | None]:
    """By setting: that a prompt is not read as a composed one, though it looks like one."""
    own, others = regions.read(settings.prompt), ("prompt_b", "negative")
    only = {
        key: "regions and weights are read in the first prompt alone"
        for key in others
        if regions.read(getattr(settings, key)).parts
    }
    travels = "a prompt with regions or weights changes at once" if settings.travel and regions.of(settings) else None
    return {"prompt": own.remark, "travel": travels, **only}


def _counted(one: Embedding) -> str:
    return f"{one.count} vector{'s' if one.count > 1 else ''}"
