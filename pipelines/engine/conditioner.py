"""What the UNet takes beside latents and timestep: prompts, picture prompt, and the scales of both adapters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.engine.picture_prompt import PictureReader
from pipelines.engine.rows import Keys, PictureKeys
from pipelines.engine.state import StreamState
from pipelines.techniques import cads, guidance, styles
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
    varied: Callable[[float], Condition] | None = None

    def of(self, frame: InFlight, negative: bool) -> Condition:
        """The condition of a row. `varied` gives that of a row with the prompt, by how noisy its level is, without a source."""
        if negative:
            return self.negative
        return self.prompt if self.varied is None or frame.source is not None else self.varied(frame.shares[frame.level])


class Conditioner:
    """Encodes prompts and picture prompts for all sessions of a pipeline. size: of the pictures, (width, height). encode:
    prompt to text; it reads the encoders at the first prompt, when the networks' files are no longer mapped."""

    def __init__(self, parts: ModelParts, size: tuple[int, int], to_device: ToDevice, encode: EncodeText) -> None:
        self._parts, self._to_device, self._encode = parts, to_device, encode
        self.pictures = PictureReader(parts, to_device)
        self.prompts = PromptCache(self._text)
        time_ids = parts.time_ids(*size)
        additions = Additions(None if time_ids is None else to_device(time_ids), parts.w_size, parts.empty_is_zero)
        self._conditions = Conditions(additions)

    def __call__(self, state: StreamState, frame: Frame | None, settings: Settings) -> Conditioning:
        """The conditioning of a turn with this frame. Moves the session on its way between prompts and styles."""
        text = self.prompts.blend(settings, partial(self._without_names, state.names))
        if frame is not None:
            text = state.travel.at(text, settings, frame.captured_at, partial(self.prompts.alike, keep=False))
        elif state.travel.current is not None:
            text = state.travel.current
        against = self._conditions.additions.negative(self.prompts, settings)
        if guidance.active(settings):
            text, against = self.prompts.alike(text, against, keep=state.travel.weight == 1.0)
        prompt, negative = self._conditions(text, settings), self._conditions(against, settings)
        if frame is not None:
            state.seen.style.at(frame.captured_at)
            state.seen_b.style.at(frame.captured_at)
        seen = styles.of_pictures(state.seen.style.current, state.seen_b.style.current, settings.picture.blend)
        style = styles.with_picture(prompt.style, seen, settings.picture.scale)
        if style is not None:
            style = replace(style, amount=style.amount * settings.style.amount)
        _, height, width = state.noise.shape
        keys = PictureKeys(settings, (height, width), state.travel.weight, prompt.guidance)
        chunks = prompt.embedding.shape[0] // self._parts.embedding_shape[0]
        varied = partial(self._varied, text, settings) if settings.cads.enabled else None
        return Conditioning(prompt, negative, settings.picture.scale, settings.control.scale, style, keys, chunks, varied)

    def _varied(self, text: Text, settings: Settings, share: float) -> Condition:
        """The condition of a text at a level, under CADS."""
        gamma = cads.of_level(settings.cads, share)
        return self._conditions(text if gamma == 1.0 else self.prompts.varied(text, settings, gamma), settings)

    def prepare(self, settings: Settings, pictured: bool) -> None:
        """Read the encoders and encode the prompts now, so that no step waits for that. pictured: there is a picture prompt."""
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
