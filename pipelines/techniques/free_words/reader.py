"""A typed prompt to the model's own words: known phrases first, then likeness of meaning; what is not known is named."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipelines.techniques.free_words.lexicon import By, Lexicon, Match, Phrase
from pipelines.techniques.free_words.meanings import Guess, Meanings
from pipelines.techniques.free_words.tokens import Token, tokens

REMEMBERED = 256  # readings
MOST_WORDS = 256  # of a prompt that are read; a setting holds at most 1500 characters
MOST_GUESSED = 48  # spans of words whose meaning is guessed, 0.1 ms each
TOGETHER = 8  # words whose meaning is guessed at once
LIKE = (0.62, 0.04)
"""Least cosine and least margin at which words are taken for a prompt of the model."""
NEAR = (0.5, 0.04)
"""The same for the nearest prompt that is named beside unknown words. A thing or a mood has none: every look can show it."""
LOOKS = ("look", "style")
"""Kinds that say how the whole picture is drawn."""
PLAIN = "photo"
"""The prompt where nothing was understood."""


@dataclass(frozen=True, slots=True)
class Understood:
    """words, as typed, and the prompt of the model that they were taken for. kind: look, style, palette, light, texture,
    intensity or scene."""

    words: str
    meaning: str
    kind: str
    by: By


@dataclass(frozen=True, slots=True)
class Unknown:
    """Words without a meaning for this model, and the look, modifier or scene that is nearest, if one is near."""

    words: str
    nearest: str | None = None

    @property
    def message(self) -> str:
        near = f"; the nearest is {self.nearest!r}" if self.nearest else ""
        return f"no style known for {self.words!r}{near}"


@dataclass(frozen=True, slots=True)
class Reading:
    """text: the prompt in the model's own words. A prompt that consists of those already is left as it is."""

    text: str
    understood: tuple[Understood, ...] = ()
    unknown: tuple[Unknown, ...] = ()

    @property
    def looks(self) -> tuple[str, ...]:
        """The looks that were understood, in order."""
        return tuple(dict.fromkeys(one.meaning for one in self.understood if one.kind in LOOKS))


def untouched(prompt: str) -> Reading:
    """The reading of a model that has no table of words: every prompt as it is."""
    return Reading(prompt)


@dataclass(slots=True)
class Draft:
    """A reading in the making. Spans are (first, last) words."""

    prompt: str
    found: list[Token]
    understood: list[tuple[int, Understood]]
    unknown: list[tuple[int, Unknown]]

    def words(self, first: int, last: int) -> str:
        """As typed."""
        return self.prompt[self.found[first].start : self.found[last].end]


class Reader:
    """kinds: every prompt of the model, with its kind. painted: the looks without an intensity."""

    def __init__(
        self,
        lexicon: Lexicon,
        kinds: Mapping[str, str],
        meanings: Meanings | None = None,
        painted: frozenset[str] = frozenset(),
    ) -> None:
        self._lexicon, self._kinds, self._meanings, self._painted = lexicon, kinds, meanings, painted
        self.read: Callable[[str], Reading] = functools.lru_cache(REMEMBERED)(self._read)

    def _read(self, prompt: str) -> Reading:
        clean = unicodedata.normalize("NFKC", prompt)
        found = self._lexicon.parted(tokens(clean))
        draft = Draft(clean, found[:MOST_WORDS], [], [])
        matches = self._lexicon.match([token.text for token in draft.found])
        self._take(draft, self._yielding(matches))
        own = all(match.phrase is not None and match.phrase.own for match in matches)
        if not own:
            self._guess(draft, [match for match in matches if match.phrase is None])
            self._without_effect(draft)
        if len(found) > MOST_WORDS:
            draft.unknown.append((MOST_WORDS, Unknown(clean[found[MOST_WORDS].start :])))
        understood = tuple(one for _, one in sorted(draft.understood, key=lambda pair: pair[0]))
        text = prompt if own and len(found) <= MOST_WORDS else self._composed(understood)
        return Reading(text, understood, tuple(one for _, one in sorted(draft.unknown, key=lambda pair: pair[0])))

    def _yielding(self, matches: Sequence[Match]) -> list[Match]:
        """The matches without general looks, where another one is named."""
        specific = any(self._has_look(match.phrase) and not match.phrase.general for match in matches if match.phrase is not None)
        return [match for match in matches if not (specific and match.phrase is not None and match.phrase.general)]

    def _has_look(self, phrase: Phrase) -> bool:
        return any(self._kinds[prompt] in LOOKS for prompt in phrase.means)

    def _take(self, draft: Draft, matches: Sequence[Match]) -> None:
        """What known phrases mean."""
        for match in matches:
            if match.phrase is None:
                continue
            words = draft.words(match.first, match.last)
            draft.understood += [
                (match.first, Understood(words, prompt, self._kinds[prompt], match.by)) for prompt in match.phrase.means
            ]
            if match.phrase.subject:
                draft.unknown.append((match.first, Unknown(words)))

    def _guess(self, draft: Draft, unknown: Sequence[Match]) -> None:
        """The meaning of words that no phrase has: of those that stand together, else of each alone."""
        spans = together([match.first for match in unknown], draft.found)
        singles = [(place,) for span in spans if len(span) > 1 for place in span]
        guesses = dict(zip((*spans, *singles), self._guesses(draft, [*spans, *singles]), strict=True))
        for span in spans:
            guess = guesses[span]
            if guess is not None and self._taken(draft, guess):
                draft.understood.append((span[0], self._guessed(draft, span, guess)))
                continue
            rest = self._one_by_one(draft, span, guesses) if len(span) > 1 else list(span)
            for run in together(rest, draft.found):
                near = guess.prompt if guess is not None and clear(guess, NEAR) else None
                draft.unknown.append((run[0], Unknown(draft.words(run[0], run[-1]), near)))

    def _one_by_one(self, draft: Draft, span: Sequence[int], guesses: Mapping[tuple[int, ...], Guess | None]) -> list[int]:
        """Take the words of a span that are understood alone; the places of the others."""
        rest = []
        for place in span:
            guess = guesses[place,]
            if guess is not None and self._taken(draft, guess):
                draft.understood.append((place, self._guessed(draft, (place,), guess)))
            else:
                rest.append(place)
        return rest

    def _guesses(self, draft: Draft, spans: Sequence[Sequence[int]]) -> list[Guess | None]:
        """The best guess for each span; None where there is none, and for those beyond the first MOST_GUESSED with a vector."""
        made: list[Guess | None] = [None] * len(spans)
        if self._meanings is None:
            return made
        words = [tuple(draft.found[place].text for place in span) for span in spans]
        known = [at for at, span in enumerate(words) if any(word in self._meanings for word in span)][:MOST_GUESSED]
        for at, guess in zip(known, self._meanings.guesses([words[at] for at in known]), strict=True):
            made[at] = guess
        return made

    def _taken(self, draft: Draft, guess: Guess) -> bool:
        """Whether a guess is good enough. A guessed look does not join a named one."""
        if not clear(guess, LIKE):
            return False
        return self._kinds[guess.prompt] not in LOOKS or not any(one.kind in LOOKS for _, one in draft.understood)

    def _guessed(self, draft: Draft, span: Sequence[int], guess: Guess) -> Understood:
        return Understood(draft.words(span[0], span[-1]), guess.prompt, self._kinds[guess.prompt], "meaning")

    def _without_effect(self, draft: Draft) -> None:
        """Words of intensity have no effect without a look that is not painted: they are unknown."""
        drawn = any(one.kind in LOOKS and one.meaning not in self._painted for _, one in draft.understood)
        idle = [pair for pair in draft.understood if pair[1].kind == "intensity" and not drawn]
        draft.understood = [pair for pair in draft.understood if pair not in idle]
        draft.unknown += [(place, Unknown(one.words)) for place, one in idle]

    def _composed(self, understood: Sequence[Understood]) -> str:
        """The model's own words for what was understood: looks, scenes, then what modifies them."""
        kinds: dict[str, list[str]] = {}
        for one in understood:
            listed = kinds.setdefault(
                {"look": "look", "style": "look", "scene": "scene", "intensity": "intensity"}.get(one.kind, "other"), []
            )
            if one.meaning not in listed:
                listed.append(one.meaning)
        looks = kinds.get("look", [])
        drawn = next((at for at, look in enumerate(looks) if look not in self._painted), None)
        if drawn is not None and kinds.get("intensity"):
            looks[drawn] = f"{kinds['intensity'][0]} {looks[drawn]}"
        return ", ".join([*looks, *kinds.get("scene", []), *kinds.get("other", [])]) or PLAIN


def clear(guess: Guess, least: tuple[float, float]) -> bool:
    """Whether a guess has the least cosine and the least margin."""
    return guess.cosine >= least[0] and guess.margin >= least[1]


def together(places: Sequence[int], found: Sequence[Token]) -> list[tuple[int, ...]]:
    """Places of words, those that stand side by side in one group of at most TOGETHER."""
    groups: list[tuple[int, ...]] = []
    for place in places:
        joined = bool(groups) and groups[-1][-1] == place - 1 and not found[place].apart and len(groups[-1]) < TOGETHER
        if joined:
            groups[-1] = (*groups[-1], place)
        else:
            groups.append((place,))
    return groups
