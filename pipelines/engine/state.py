"""What belongs to one session: frames in flight, noise, remembered results. Data only; never shared, never global."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipelines.checkpoints.loader.unet_config import SPATIAL_FACTOR
from pipelines.engine.partial_memory import PartialMemory
from pipelines.engine.picture_prompt import PicturePrompt
from pipelines.techniques import strength_map
from pipelines.techniques.conditioning import Travel
from pipelines.techniques.feature_cache import CacheState
from pipelines.techniques.gate import Thumb
from pipelines.techniques.guidance import NegativeMemory
from pipelines.techniques.motion import Follower
from pipelines.techniques.noise import SessionNoise
from pipelines.techniques.probe import Probe
from pipelines.techniques.stream_batch import InFlight, Ring
from pipelines.values.picture_style import PictureStyle
from pipelines.values.style_names import StyleNames
from pipelines.values.types import Pixels

CacheSlot = tuple[int, int]
"""(level, place of the row among those of its frame)."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureEntry:
    """Features of the last full pass of one slot, with the policy's state of them.

    relayed: features that the last relay since then kept for shallow passes; empty before the first.
    """

    state: CacheState
    features: tuple[Tensor, ...]
    relayed: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """An answered picture, uint8 [H, W, 3] on the device; its input at a quarter of the size; and `feedback.identity`."""

    picture: Tensor
    small: Pixels
    identity: Hashable


@dataclass(slots=True)
class StreamState:
    """One session's memory between steps. Made by `StreamPipeline.open`; opaque to everyone but the engine.

    number: no other state has it. inpaints: whether the model draws painted pixels anew. previous_x0: the last finished latent,
    for the warm start;
    previous_small: its input at a quarter of the size. answered: the last picture, where it enters the next. follower: the
    motion of the input; scene: number of its cuts, counted where motion is followed. mask: the painted strength map [1, h, w];
    repainted: its pixels, uint8 [H, W], for a model that inpaints. inputs_version: number of changes of mask, picture prompts
    and names; pictures_version: of picture prompts, styles among them. seen, seen_b: the picture prompts. names: styles that
    prompts may name. residuals: of the negative rows, by level. partial: for partial frames. turn: the `Turn` that goes on in a
    later step. shown: the frame of the last picture, where a refinement may go on with it.
    """

    noise: SessionNoise
    inpaints: bool = False
    number: int = field(default_factory=itertools.count().__next__, kw_only=True)
    ring: Ring = field(default_factory=Ring)
    previous_x0: Tensor | None = None
    previous_small: Pixels | None = None
    previous_thumb: Thumb | None = None
    answered: Answered | None = None
    follower: Follower = field(default_factory=Follower)
    scene: int = 0
    mask: Tensor | None = None
    repainted: Tensor | None = None
    inputs_version: int = 0
    pictures_version: int = 0
    seen: PicturePrompt = field(default_factory=PicturePrompt)
    seen_b: PicturePrompt = field(default_factory=PicturePrompt)
    names: StyleNames = field(default_factory=StyleNames)
    cache: dict[CacheSlot, FeatureEntry] = field(default_factory=dict)
    residuals: dict[int, NegativeMemory] = field(default_factory=dict)
    probe: Probe = field(default_factory=Probe)
    travel: Travel = field(default_factory=Travel)
    partial: PartialMemory = field(default_factory=PartialMemory)
    turn: Any = None
    shown: InFlight | None = None

    @property
    def changing(self) -> bool:
        """Whether prompts or styles are on their way to others, so that the picture changes while the input rests."""
        return self.travel.origin is not None or self.seen.style.origin is not None or self.seen_b.style.origin is not None

    @property
    def in_flight(self) -> int:
        """Number of frames in the stream batch."""
        return len(self.ring)

    @property
    def frames(self) -> tuple[int, ...]:
        """Ids of the frames in the stream batch, oldest first."""
        return tuple(frame.frame_id for frame in self.ring.frames)

    def set_mask(self, mask: NDArray[np.uint8] | None) -> None:
        """The painted strength map for mode "mask": uint8 [H, W] of any size, 255 for full strength; None removes it.

        It holds from the next frame on; frames in flight keep theirs. Raises ValueError for other arrays.
        """
        height, width = self.noise.shape[1:]
        self.mask = None if mask is None else strength_map.from_mask(mask, height, width)[0]
        self.repainted = None
        if mask is not None and self.inpaints:
            self.repainted = strength_map.repainted(mask, SPATIAL_FACTOR * height, SPATIAL_FACTOR * width)
        self.inputs_version += 1  # ends what was remembered under the old map

    @property
    def pictured(self) -> bool:
        """Whether there is a picture prompt."""
        return self.seen.picture is not None or self.seen_b.picture is not None

    def set_picture(self, picture: Pixels | PictureStyle | None, second: bool = False) -> None:
        """The picture prompt, uint8 [height, width, 3] of any size, or a style that was made from one; None removes it. second:
        the one that `picture.blend` mixes in.

        It holds from the next frame on; frames in flight keep their tokens. Has no effect on a model that takes no pictures.
        """
        if not isinstance(picture, PictureStyle):  # a style acts after the UNet
            self.inputs_version += 1  # ends what was remembered under the old picture
        self.pictures_version += 1
        (self.seen_b if second else self.seen).set(picture)

    def set_names(self, names: StyleNames) -> None:
        """The styles that the session's prompts may name, from the next frame on."""
        self.names = names
        self.inputs_version += 1  # the same prompt may mean something else

    def shadow(self) -> StreamState:
        """An independent state that will treat the next frame as this one would, for the unaccelerated reference."""
        return StreamState(
            self.noise.copy(),
            self.inpaints,
            previous_x0=self.previous_x0,
            previous_small=self.previous_small,
            previous_thumb=self.previous_thumb,
            answered=self.answered,
            mask=self.mask,
            repainted=self.repainted,
            inputs_version=self.inputs_version,
            seen=self.seen.copy(),
            seen_b=self.seen_b.copy(),
            names=self.names,
            travel=dataclasses.replace(self.travel),
        )
