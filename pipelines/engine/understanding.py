"""From the words of settings to what the networks take of them, and what is said of that to who typed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.techniques.free_words.reader import Reading, Understood
from pipelines.techniques.prompt_syntax import Unsupported
from pipelines.values.settings import Settings
from pipelines.values.style_names import StyleNames

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
    """What became of the prompts of some settings; keys are the settings' names, of those that are not empty."""

    readings: Mapping[str, Reading]
    cuts: Mapping[str, Cut]
    unsupported: Mapping[str, tuple[Unsupported, ...]]

    def listed(self) -> dict[str, list[dict[str, object]]]:
        """understood, unknown and cut as JSON has them; docs/protocol-messages.md describes the fields."""
        readings = self.readings.items()
        return {
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


def understand(parts: ModelParts, cut: Callable[[str], int | None], settings: Settings, names: StyleNames) -> Understanding:
    """How a model reads the prompts of these settings. cut: the place where a text is cut, as `Texts.cut`. names: styles that
    they may name. Any thread; takes milliseconds."""
    readings: dict[str, Reading] = {}
    cuts, unsupported = {}, {}
    for key in TYPED:
        if not (words := " ".join(getattr(settings, key).split())):
            continue
        rest, named = parts.read_names(words, names) if len(names) and key != "negative" else (words, ())
        styles = (tuple(style for _, style in named),) if named else ()
        parsed = parts.parse_prompt(parts.read_prompt(rest, *styles)[0])
        text, unsupported[key] = parsed.plain, parsed.unsupported
        if (at := cut(text)) is not None:
            cuts[key] = Cut(parts.embedding_shape[0], text[:at].rstrip(), text[at:])
        reading = parts.read_words(rest) if rest else Reading("")
        found = tuple(Understood(typed, style.name, "style", "name") for typed, style in named)
        readings[key] = replace(reading, understood=(*found, *reading.understood)) if named else reading
    return Understanding(readings, cuts, unsupported)
