"""What the UNet takes beside latents and timestep: prompts, picture prompt, and the scales of both adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.engine.composing import Composer, Layers, style_of
from pipelines.engine.picture_prompt import PictureReader
from pipelines.engine.rows import Keys, PictureKeys
from pipelines.engine.state import StreamState
from pipelines.techniques import cads, guidance, regions, styles
from pipelines.techniques.conditioning import Additions, Condition, Conditions, PromptCache, Text
from pipelines.techniques.noise import ToDevice
from pipelines.techniques.stream_batch import InFlight
from pipelines.techniques.styles import Style
from pipelines.values.picture_style import PictureStyle
from pipelines.values.settings import Settings
from pipelines.values.style_names import StyleNames
from pipelines.values.types import Frame

EncodeText = Callable[..., tuple[Tensor, ...]]
"""As `text.Encode`; where layers of the text encoder are left out, with their number behind the prompt."""


@dataclass(frozen=True, slots=True)
class Conditioning:
    """For the rows of one session in one turn: the condition of rows with the prompt and with the negative one, scales of the
    picture prompt and of the ControlNet, the painter's style, the keys of what the session remembers, and the length of the
    prompt in chunks."""

    prompt: Condition
    negative: Condition
    picture_scale: float
    control_scale: float
    style: Style | None
    keys: Keys
    chunks: int = 1
    varied: Callable[[int, float], Condition] | None = None
    more: tuple[Condition, ...] = ()
    shares: Tensor | None = None
    layers: Layers = ()

    @property
    def prompts(self) -> tuple[Condition, ...]:
        """Of the rows of a composed prompt, or of the one row of another. more: those after the first; shares: of the rows,
        [R, 1, h, w]; layers: what is painted where."""
        return (self.prompt, *self.more)

    def of(self, frame: InFlight, negative: bool, part: int = 0) -> Condition:
        """The condition of a row. `varied` gives that of a row with the prompt, by how noisy its level is, without a source."""
        if negative:
            return self.negative
        if self.varied is None or frame.source is not None:
            return self.prompts[part]
        return self.varied(part, frame.shares[frame.level])


class Conditioner:
    """Encodes prompts and picture prompts for all sessions of a pipeline. size: of the pictures, (width, height). encode:
    prompt to text; it reads the encoders at the first prompt, when the networks' files are no longer mapped."""

    def __init__(self, parts: ModelParts, size: tuple[int, int], to_device: ToDevice, encode: EncodeText) -> None:
        self._parts, self._to_device, self._encode = parts, to_device, encode
        self.pictures = PictureReader(parts, to_device)
        self.prompts = PromptCache(self._text)
        self._composer = Composer(parts, self.prompts, size, to_device)
        time_ids = parts.time_ids(*size)
        additions = Additions(None if time_ids is None else to_device(time_ids), parts.w_size, parts.empty_is_zero)
        self._conditions = Conditions(additions)

    def __call__(self, state: StreamState, frame: Frame | None, settings: Settings) -> Conditioning:
        """The conditioning of a turn with this frame. Moves the session on its way between prompts and styles."""
        read, (_, height, width) = partial(self._without_names, state.names), state.noise.shape
        composed = self._composer(settings, read, state.mask, (height, width))
        text = composed.texts[0]
        if frame is not None:
            travelling = replace(settings, travel=0.0) if composed.parts else settings
            text = state.travel.at(text, travelling, frame.captured_at, partial(self.prompts.alike, keep=False))
        elif state.travel.current is not None and not composed.parts:
            text = state.travel.current
        texts, against = [text, *composed.texts[1:]], self._conditions.additions.negative(self.prompts, settings)
        if guidance.active(settings):
            texts, against = self.prompts.all_alike(texts, against, keep=state.travel.weight == 1.0)
        conditions = [self._conditions(one, settings) for one in texts]
        prompt, negative = conditions[0], self._conditions(against, settings)
        if frame is not None:
            state.seen.style.at(frame.captured_at)
            state.seen_b.style.at(frame.captured_at)
        seen = styles.of_pictures(state.seen.style.current, state.seen_b.style.current, settings.picture.blend)

        def finish(style: Style | None) -> Style | None:
            style = styles.with_picture(style, seen, settings.picture.scale)
            return style if style is None else replace(style, amount=style.amount * settings.style.amount)

        style = finish(style_of(composed) if composed.parts else prompt.style)
        layers = self._composer.layers(composed, state.mask, finish)
        keys = PictureKeys(settings, (height, width), state.travel.weight, prompt.guidance)
        chunks = max(one.embedding.shape[0] for one in conditions) // self._parts.embedding_shape[0]
        varied = partial(self._varied, texts, settings) if settings.cads.enabled else None
        scales = settings.picture.scale, settings.control.scale
        more = tuple(conditions[1:])
        return Conditioning(prompt, negative, *scales, style, keys, chunks, varied, more, composed.shares, layers)

    def count(self, settings: Settings, names: StyleNames) -> int:
        """Rows that a frame takes for its prompt. names: styles that it may name."""
        return len(self._composer.rows(settings, partial(self._without_names, names)))

    def _varied(self, texts: Sequence[Text], settings: Settings, part: int, share: float) -> Condition:
        """The condition of a text at a level, under CADS."""
        gamma, text = cads.of_level(settings.cads, share), texts[part]
        return self._conditions(text if gamma == 1.0 else self.prompts.varied(text, settings, gamma), settings)

    def prepare(self, settings: Settings, pictured: bool) -> None:
        """Read the encoders and encode the prompts now, so that no step waits for that. pictured: there is a picture prompt."""
        for part in regions.of(settings):
            self.prompts.blend(replace(settings, prompt=part.text))
        if not regions.of(settings):
            self.prompts.blend(settings)
        if pictured or self._parts.picture_tokens:
            self.pictures.warm()

    def forget(self) -> None:
        """The networks have changed: nothing that was computed with them is used again."""
        self.prompts.clear()
        self._conditions.clear()

    def _without_names(self, names: StyleNames, prompt: str) -> tuple[str, tuple[PictureStyle, ...]]:
        words, named = self._parts.read_names(prompt, names) if len(names) else (prompt, ())
        return words, tuple(style for _, style in named)

    def _text(self, prompt: str, named: tuple[PictureStyle, ...] = (), skip: int = 0) -> Text:
        """A prompt as the networks take it: a painted look's name becomes the painter's style. named: styles beside it. skip:
        layers of the text encoder that are left out."""
        words, style = self._parts.read_prompt(prompt, named) if named else self._parts.read_prompt(prompt)
        encoded = tuple(map(self._to_device, self._encode(words, skip) if skip else self._encode(words)))
        return Text(encoded, None if style is None else replace(style, numbers=self._to_device(style.numbers)))
