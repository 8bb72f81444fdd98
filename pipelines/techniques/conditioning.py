"""Prompts to the conditions of UNet rows: encoded once, remembered, blended, completed by what else the model takes.

A text encoder runs for a prompt that was never seen; everything after that is arithmetic on remembered tensors. What the UNet's
resnets take of prompt and timestep is remembered, too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pipelines.networks.unet import guidance_embedding
from pipelines.techniques import cads, guidance, styles
from pipelines.techniques.styles import Style
from pipelines.values.picture_style import PictureStyle
from pipelines.values.settings import Settings

Read = Callable[[str], tuple[str, tuple[PictureStyle, ...]]]
"""A prompt to (the prompt without names of styles, the styles)."""

Alike = Callable[["Text", "Text"], "tuple[Text, Text]"]

CACHED_PROMPTS = 256  # SD 1.5: 77·768 floats = 0.24 MB each, 60 MB at most
CACHED_CONDITIONS = 64
CACHED_LEVELS = 16  # of one condition; SDXL: 28,000 floats = 0.1 MB each


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """A prompt as the networks take it.

    encoded: the text encoders' embedding [n·L, D] of n chunks, and for a model that takes it the pooled text [P]. style: of the
    painter that follows the decoder; None for a picture that is not painted.
    """

    encoded: tuple[Tensor, ...]
    style: Style | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """What the UNet takes for one row beside latent and timestep.

    embedding: [n·L, D]. added: what else the UNet takes of pooled text [P], time ids [6], guidance embedding [W], in this order.
    guidance: γ in the guidance embedding, None for a model without one. style: of the painter, None for none.
    modulations:
    the modulations [M] computed from it so far, by network and timestep.
    """

    embedding: Tensor
    added: tuple[Tensor, ...] = ()
    guidance: float | None = None
    style: Style | None = None
    modulations: OrderedDict[tuple[str, int], Tensor] = field(default_factory=OrderedDict)

    def modulation(self, timestep: int, compute: Callable[[int, Condition], Tensor], network: str = "") -> Tensor:
        """The scales and shifts of the resnets of one of the networks at a timestep, [M]: remembered, or computed now."""
        key = network, timestep
        if key not in self.modulations:
            self.modulations[key] = compute(timestep, self)
            if len(self.modulations) > CACHED_LEVELS:
                self.modulations.popitem(last=False)
        return self.modulations[key]


@dataclass(frozen=True, slots=True, eq=False)
class Additions:
    """What a model takes beside the text: time_ids [6] of SDXL, and γ in an embedding of w_size numbers (distilled LCM).

    empty_is_zero: no negative prompt is a text of zeros, not that of the empty prompt.
    """

    time_ids: Tensor | None = None
    w_size: int | None = None
    empty_is_zero: bool = False

    def negative(self, prompts: PromptCache, settings: Settings) -> Text:
        """The text of the negative row."""
        if self.empty_is_zero and not settings.negative.strip():
            return prompts.blank()
        return prompts(settings.negative, skip=settings.clip_skip)

    def complete(self, text: Text, settings: Settings) -> Condition:
        """The condition of a row with this text."""
        embedding, *added = text.encoded
        if self.time_ids is not None:
            added.append(self.time_ids)
        if self.w_size is None:
            return Condition(embedding, tuple(added), None, text.style)
        scale = self.embedded_guidance(settings)
        embedding_of_scale = guidance_embedding(torch.tensor([scale - 1.0]), self.w_size)[0]
        added.append(embedding_of_scale.to(embedding.device, non_blocking=True))
        return Condition(embedding, tuple(added), scale, text.style)

    def embedded_guidance(self, settings: Settings) -> float:
        """γ as the network itself takes it: 1 where guidance works on rows, so that it is not applied twice."""
        return 1.0 if guidance.active(settings) else settings.guidance


class Conditions:
    """The conditions of the texts last seen, for all sessions of a pipeline: what was computed from one stays with it."""

    def __init__(self, additions: Additions, limit: int = CACHED_CONDITIONS) -> None:
        self.additions = additions
        self._limit = limit
        self._known: OrderedDict[Hashable, tuple[Text, Condition]] = OrderedDict()

    def clear(self) -> None:
        """Forget all of them."""
        self._known.clear()

    def __call__(self, text: Text, settings: Settings) -> Condition:
        """The condition of a text. The text is known by identity: PromptCache hands out the same one for the same words."""
        key = (id(text), None if self.additions.w_size is None else self.additions.embedded_guidance(settings))
        if key not in self._known:  # the text is kept with it, so that its id is not given to another
            self._known[key] = (text, self.additions.complete(text, settings))
            if len(self._known) > self._limit:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key][1]


class PromptCache:
    """Remembers the texts of the most recently used prompts, for all sessions of a pipeline."""

    def __init__(self, encode: Callable[..., Text], limit: int = CACHED_PROMPTS) -> None:
        """encode: called with the words, with the styles that are named beside them, if there are any, and with skip, the layers
        of the text encoder that are left out, unless it is 0."""
        self._encode = encode
        self._limit = limit
        self._known: OrderedDict[Hashable, Text] = OrderedDict()
        self.encoded = 0  # how often the encoder really ran

    def clear(self) -> None:
        """Forget all of them."""
        self._known.clear()

    def __call__(self, prompt: str, read: Read | None = None, skip: int = 0) -> Text:
        """read: takes the names of a session's styles out of a prompt."""
        words = " ".join(prompt.split())
        words, named = (words, ()) if read is None else read(words)
        given = (named,) if named else ()
        return self._remembered((words, *given, skip), lambda: self._encoded(words, *given, **({"skip": skip} if skip else {})))

    def blend(self, settings: Settings, read: Read | None = None) -> Text:
        """A session's prompt mixed with prompt_b by blend. read: as above."""
        skip = settings.clip_skip
        if not settings.prompt_b or settings.blend == 0.0:
            return self(settings.prompt, read, skip)
        if settings.blend == 1.0:
            return self(settings.prompt_b, read, skip)
        one, other = self.alike(self(settings.prompt, read, skip), self(settings.prompt_b, read, skip))
        key = (one, other, settings.blend, settings.blend_mode)
        return self._remembered(key, lambda: mixed(one, other, settings.blend, settings))

    def varied(self, text: Text, settings: Settings, gamma: float) -> Text:
        """The text for a level where γ of it is left under settings.cads and the seed (see cads.py)."""

        def make() -> Text:
            own, found = settings.cads, []
            for index, y in enumerate(text.encoded):
                n = cads.noise(settings.seed, index, tuple(y.shape)).to(y.device, y.dtype, non_blocking=True)
                found.append(cads.annealed(y, n, gamma, own.scale, own.rescale))
            return replace(text, encoded=tuple(found))

        return self._remembered((text, settings.seed, settings.cads.scale, settings.cads.rescale, gamma), make)

    def blank(self) -> Text:
        """A text of zeros, which SDXL was trained to take for no negative prompt."""
        return self._remembered(None, lambda: Text(tuple(map(torch.zeros_like, self("").encoded))))

    def alike(self, a: Text, b: Text, keep: bool = True) -> tuple[Text, Text]:
        """Both texts in the length of the longer one: the empty prompt follows the shorter one, as compel does it. keep: they are
        texts that come again."""
        length = max(a.encoded[0].shape[0], b.encoded[0].shape[0])
        return self._padded(a, length, keep), self._padded(b, length, keep)

    def all_alike(self, texts: Sequence[Text], other: Text, keep: bool = True) -> tuple[list[Text], Text]:
        """As `alike`, for several texts and one more."""
        length = max(text.encoded[0].shape[0] for text in (*texts, other))
        return [self._padded(text, length, keep) for text in texts], self._padded(other, length, keep)

    def _padded(self, text: Text, length: int, keep: bool) -> Text:
        missing = length - text.encoded[0].shape[0]
        if not missing:
            return text

        def padded() -> Text:
            filler = (text if text is self._known.get(None) else self("")).encoded[0]
            count = missing // filler.shape[0]
            return replace(text, encoded=(torch.cat([text.encoded[0], *[filler] * count]), *text.encoded[1:]))

        return self._remembered((text, length), padded) if keep else padded()

    def _encoded(self, words: str, *named: tuple[PictureStyle, ...], **options: int) -> Text:
        self.encoded += 1
        return self._encode(words, *named, **options)

    def _remembered(self, key: Hashable, make: Callable[[], Text]) -> Text:
        if key not in self._known:
            self._known[key] = make()
            if len(self._known) > self._limit:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]


@dataclass(slots=True)
class Travel:
    """One session's way from prompt to prompt, timed by the frames' own clock so that a replay takes the same way."""

    words: tuple[str, str] | None = None
    origin: Text | None = None
    current: Text | None = None
    began: float = 0.0
    weight: float = 1.0

    def at(self, target: Text, settings: Settings, now: float, alike: Alike = lambda a, b: (a, b)) -> Text:
        """The text at `now` seconds: `target`, or on the way to it for settings.travel seconds after a change of
        words. A change on the way sets out from where it is. alike: two texts in the length of the longer one."""
        words = (settings.prompt, settings.prompt_b)
        if words != self.words:
            self.origin = self.current if settings.travel > 0 else None
            self.words, self.began = words, now
        self.weight = (
            1.0 if self.origin is None or not settings.travel else min(max((now - self.began) / settings.travel, 0.0), 1.0)
        )
        if self.weight == 1.0 or self.origin is None:
            self.origin, self.current = None, target
        else:
            self.current = mixed(*alike(self.origin, target), self.weight, settings)
        return self.current


def mixed(a: Text, b: Text, weight: float, settings: Settings) -> Text:
    """The text at `weight` (0..1) on the way from a to b: each encoded tensor by the mode of blending, the style linearly."""
    mix: Callable[[Tensor, Tensor, float], Tensor] = spherical if settings.blend_mode == "spherical" else torch.lerp
    encoded = tuple(mix(one, other, weight) for one, other in zip(a.encoded, b.encoded, strict=True))
    return Text(encoded, styles.mixed((a.style, 1.0 - weight), (b.style, weight)))


def spherical(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """Slerp per token [.., D] (Shoemake 1985), lengths mixed linearly; nearly parallel or opposite tokens are mixed linearly."""
    length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    unit_a, unit_b = a / length_a.clamp_min(1e-8), b / length_b.clamp_min(1e-8)
    cosine = (unit_a * unit_b).sum(-1, keepdim=True).clamp(-1, 1)
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    direction = (torch.sin((1 - weight) * angle) * unit_a + torch.sin(weight * angle) * unit_b) / sine.clamp_min(1e-8)
    return torch.where(sine < 1e-3, torch.lerp(a, b, weight), direction * torch.lerp(length_a, length_b, weight))
