"""What the table is made of: the text encoder's own language (training/words.py) and the lists of aliases beside this file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.techniques.free_words.tokens import key
from training import words

HERE = Path(__file__).parent
LANGUAGES = ("english", "german", "spanish", "french", "japanese", "chinese")
"""In the order in which they count: where two languages have one word, the first has it."""

UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"})
ENDINGS = {"german": ("e", "er", "es", "en", "em"), "spanish": ("a", "os", "as")}


@dataclass(frozen=True, slots=True)
class Language:
    """aliases: prompt, or several with ", " between them → phrases. general: looks that give way. fillers: words without a
    meaning. parts: what compounds are made of. subjects: things and moods without a look of their own."""

    name: str
    aliases: Mapping[str, tuple[str, ...]]
    general: tuple[str, ...]
    fillers: tuple[str, ...]
    parts: tuple[str, ...]
    subjects: tuple[str, ...]


def language(name: str) -> Language:
    """The list of a language, with the spellings and endings that people use. Raises KeyError for a list without a part."""
    listed = tomllib.loads((HERE / f"{name}.toml").read_text(encoding="utf-8"))
    aliases = {target: tuple(_spelt(name, phrases)) for target, phrases in listed["aliases"].items()}
    lists = listed["lists"]
    general, subjects = (tuple(_spelt(name, lists[field])) for field in ("general", "subjects"))
    return Language(name, aliases, general, tuple(lists["fillers"]), tuple(lists["parts"]), subjects)


def _spelt(name: str, phrases: list[str]) -> Iterator[str]:
    """The phrases, German ones without umlauts too, adjectives with their endings."""
    for phrase in phrases:
        forms = [phrase]
        if name == "german" and re.fullmatch(r"[a-zäöüß]+[^aeiouäöü\W]", phrase):
            forms += [phrase + ending for ending in ENDINGS["german"]]
        if name == "spanish" and re.fullmatch(r"\w+o", phrase):
            forms += [phrase[:-1] + ending for ending in ENDINGS["spanish"]]
        yield from forms
        if name == "german":
            yield from (form.translate(UMLAUTS) for form in forms if form != form.translate(UMLAUTS))


def own() -> dict[str, list[str]]:
    """The phrases that the text encoder was trained on, by the prompt that lists name them with."""
    tables = (words.NAMES, words.PALETTE_WORDS, words.LIGHT_WORDS, words.TEXTURE_WORDS, words.SCENES)
    made = {phrases[0]: list(phrases) for table in tables for phrases in table.values()}
    for phrases in words.INTENSITY_WORDS.values():
        bare = [phrase.format("").strip(", ") for phrase in phrases]
        made[bare[0].split()[0]] = bare
    return made


def glue() -> list[str]:
    """Words of the text encoder's language without a meaning of their own."""
    texts = (*words.TEMPLATES, words._GLUE, *words.FILLERS)
    return sorted({word for text in texts for word in re.findall(r"[a-z0-9]+", text)})


def table() -> dict[str, object]:
    """`words.json` but for vocabulary and prompts. Of two meanings of one phrase the first counts: the text encoder's own, then
    the languages in their order."""
    languages = [language(name) for name in LANGUAGES]
    first = own()
    taken = {key(phrase) for phrases in first.values() for phrase in phrases}
    aliases: dict[str, list[str]] = {}
    for spoken in languages:
        found: dict[str, str] = {}
        for target, phrases in spoken.aliases.items():
            for phrase in phrases:
                if key(phrase) and key(phrase) not in taken:
                    found.setdefault(key(phrase), target)
        for phrase, target in found.items():
            aliases.setdefault(target, []).append(phrase)
        taken |= found.keys()
    fillers = sorted({key(word) for spoken in languages for word in spoken.fillers} - taken - {""})
    subjects = [word for word in words.SUBJECTS if word not in fillers and word not in taken]
    things = sorted({key(word) for spoken in languages for word in spoken.subjects} - taken - {*subjects, *fillers})
    silent = sorted({*glue(), *(word for word in words.SUBJECTS if word in fillers)} - taken)
    general = {key(phrase) for spoken in languages for phrase in spoken.general}
    return {
        "own": first,
        "aliases": dict(sorted(aliases.items())),
        "general": sorted(general),
        "glue": silent,
        "subjects": subjects,
        "things": [word for word in things if word not in silent],
        "fillers": [word for word in fillers if word not in silent],
        "parts": sorted({key(part) for spoken in languages for part in spoken.parts}),
    }


@dataclass(frozen=True, slots=True)
class Wish:
    """A line of a list of prompts. accepted: the looks that a person would accept, () for none."""

    language: str
    prompt: str
    accepted: tuple[str, ...]


def wishes(name: str) -> list[Wish]:
    """The prompts of `prompts` or `prompts_held_out`."""
    lines = (HERE / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    parted = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return [Wish(spoken, prompt, tuple(look for look in looks.split("|") if look != "-")) for spoken, prompt, looks in parted]
