"""The parts an engine is made of: a checked model's files to modules and tensors.

Parts are loaded on first use: with graphs cached on disk a start reads no UNet weights at all.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.checkpoints.loader import networks, text
from pipelines.checkpoints.loader.fingerprints import FUSED
from pipelines.checkpoints.loader.folder import FolderCheckpoint
from pipelines.checkpoints.loader.lora import LoraFile
from pipelines.checkpoints.loader.loras_in_use import LorasInUse
from pipelines.checkpoints.loader.model_files import ModelFiles
from pipelines.checkpoints.loader.picture import PictureEncoder
from pipelines.checkpoints.loader.style_reading import StyleReading, ends_of, reading
from pipelines.checkpoints.loader.weights_of_words import WeightedTexts
from pipelines.checkpoints.loader.words import read_words
from pipelines.networks.hires import Hires, Windows, install
from pipelines.networks.modulation import FractionalTimesteps
from pipelines.techniques import edm, schedule
from pipelines.techniques.free_words.reader import Reading, untouched
from pipelines.techniques.prompt_syntax import Weighted, parse
from pipelines.techniques.styles import Style, StyleBook, beside, with_tone
from pipelines.values.models import ModelInfo
from pipelines.values.picture_style import TONE, PictureStyle
from pipelines.values.style_names import Named, StyleNames
from pipelines.values.types import ModelError


class ModelParts(ModelFiles):
    """The modules and tensors of a checked model. The constructor, or the access to a broken part, raises ModelError, which names
    the file or field. offline: as there.
    """

    def __init__(self, info: ModelInfo, offline: bool = False) -> None:
        super().__init__(info, offline)
        self.schedule = schedule.from_config(
            self.checkpoint.scheduler, info.trained_timesteps, info.prediction, info.shift, info.distilled
        )
        self.adapted = LorasInUse(self)
        self.hires: Hires | None = None
        self.windows: Windows | None = None
        self.small: ModelParts | None = None

    def change_loras(self, info: ModelInfo, loras: tuple[LoraFile, ...]) -> None:
        super().change_loras(info, loras)
        self.__dict__.pop("text_fingerprint", None)
        if "encode_weighted" in self.__dict__:
            self.encode_weighted.forget()

    @property
    def shared(self) -> dict[str, object]:
        """What two models must have alike to take the levels of one frame, by its name for people."""
        length, width = self.embedding_shape
        schedule = self.schedule
        levels = schedule.signal.numpy().tobytes() + schedule.sigma.numpy().tobytes()
        return {
            "the number of channels of its latent": int(self.unet_config["in_channels"]),
            "the number of channels that it predicts": self.latent_channels,
            "the width of its text": width,
            "the length of its text": length,
            "what it takes beside the text": self.added_sizes,
            "its prediction type": schedule.prediction,
            "its noise schedule": hashlib.sha256(levels).hexdigest()[:8],
            "its timesteps": (schedule.trained, schedule.first, schedule.shift, schedule.fractions is None),
        }

    def _set_timesteps(self, network: Any) -> None:
        """Let a network of a model whose timesteps are fractions take them as `Schedule.model_timestep` gives them."""
        if self.schedule.fractions is not None:
            network.time_proj = FractionalTimesteps(network.time_proj, schedule.FRACTION)

    def time_ids(self, width: int, height: int) -> Tensor | None:
        """SDXL's size conditions [6] for an uncropped picture of this size in pixels; None for a UNet without this input."""
        if self.pooled_size is None:
            return None
        return torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32)

    @cached_property
    def unet(self) -> nn.Module:
        """The UNet in the files' own dtype, with every LoRA in its weights or beside them. Sets `windows` where `hires` is set,
        before it is first read."""
        unet = self.checkpoint.network("unet") if self._unet is None else self._unet.network()
        self.adapted.add_to("unet", unet)
        self._set_timesteps(unet)
        if self._picture is not None:
            self._picture.install(unet)
        if self.hires is not None:
            self.windows = install(unet, self.hires)
        return unet

    @cached_property
    def controls(self) -> tuple[nn.Module, ...]:
        """ControlNets and T2I-Adapters in the files' own dtype."""
        made = tuple(control.network() for control in self.control_files)
        for control, files in zip(made, self.control_files, strict=True):
            if not files.is_adapter:
                self._set_timesteps(control)
        return made

    @cached_property
    def encode_picture(self) -> PictureEncoder:
        """A picture to (its tokens, the tokens of no picture). Requires `picture_tokens` > 0."""
        if self._picture is None:
            raise ModelError(f"{self.name}: has no adapter for picture prompts")
        return self._picture.encoder()

    @cached_property
    def vae(self) -> nn.Module:
        """In the files' own dtype. Its scale includes the deviation of an EDM model's data."""
        vae: Any = self.checkpoint.network("vae") if self._vae is None else self._vae.network()
        deviation = edm.data_deviation(self.checkpoint.scheduler)
        if deviation != 1.0:
            vae.register_to_config(scaling_factor=vae.config.scaling_factor / deviation)
        network: nn.Module = vae
        return network

    @cached_property
    def painter(self) -> nn.Module:
        """The painter in the files' own dtype. Requires `has_painter`."""
        if not self.has_painter:
            raise ModelError(f"{self.name}: has no painter")
        return self.checkpoint.network("painter")

    @property
    def paints_windows(self) -> bool:
        """Whether the painter can paint a window of a picture with the statistics of the whole one."""
        of_folder = isinstance(self.checkpoint, FolderCheckpoint) and self.has_painter
        return of_folder and self.checkpoint.configs["painter"].get("_class_name") == "TrunkPainter"

    @cached_property
    def painter_fingerprint(self) -> str:
        """Of the painter's convolutions: changes whenever numbers of its styles would mean something else. It is read from the
        file: the network's class imports diffusers, which a picture from graphs on disk does without."""
        if not isinstance(self.checkpoint, FolderCheckpoint) or not self.has_painter:
            raise ModelError(f"{self.name}: has no painter")
        digest = hashlib.sha256()
        for name, values in sorted(networks.read(self.checkpoint.weights["painter"]).items()):
            if name != "styles":
                digest.update(name.encode() + values.half().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    @cached_property
    def style_network(self) -> Any:
        """The StyleReader, in float32. Only where `reads_styles`. Raises ModelError for one of another painter."""
        if not self.reads_styles:
            raise ModelError(f"{self.name}: has nothing that reads a picture's style")
        network: Any = self.checkpoint.network("style_reader")
        if network.config["painter"] != self.painter_fingerprint:
            raise ModelError(
                f"{self.name}/style_reader: is for another painter ({network.config['painter']}), not {self.painter_fingerprint}"
            )
        return network.float()

    @cached_property
    def style_reader(self) -> StyleReading:
        """Picture to a style of the painter. Only where `reads_styles`. Raises ModelError for a reader of another painter."""
        return reading(self.style_network, self.painter_fingerprint, ends_of(copy.deepcopy(self.painter), self.calibration))

    @cached_property
    def style_table(self) -> Tensor:
        """[S, N + TONE], float32: the numbers of the painter's own styles, each with a tone (pipelines/networks/painter.py)."""
        if not isinstance(self.checkpoint, FolderCheckpoint) or not self.has_painter:
            raise ModelError(f"{self.name}: has no painter")
        numbers = networks.read_one(self.checkpoint.weights["painter"], "styles").float()
        return numbers if self.checkpoint.configs["painter"].get("toned") else with_tone(numbers)

    @property
    def plain_styles(self) -> Tensor:
        """[K, N], float32: the painter's own styles that have no tone, without it; all of them where each has one."""
        plain = self.style_table[:, -TONE] == 0
        return self.style_table[plain if plain.any() else slice(None), :-TONE]

    @cached_property
    def styles(self) -> StyleBook:
        """The painted looks that a prompt may name; empty without a painter. Raises ModelError for a look with an unknown
        style."""
        if not self.has_painter:
            return StyleBook()
        for look in self.vocabulary.painted:
            if look.made is not None:
                look.made.check(self.painter_fingerprint, self.style_table.shape[1] - TONE, f"{self.name}/styles: {look.prompt}")
            if any(row >= len(self.style_table) for row, _ in look.paint):
                raise ModelError(
                    f"{self.name}/painter/config.json: {look.prompt!r} mixes a row beyond {len(self.style_table) - 1}"
                )
        return StyleBook(self.vocabulary.painted, self.style_table)

    @cached_property
    def text_fingerprint(self) -> str:
        """Changes whenever weights, configuration or tokenizer of a text encoder change, or the code that makes one of them."""
        versions = [version(name) for name in ("transformers", "tokenizers")]
        code = hashlib.sha256(Path(text.__file__).read_bytes()).hexdigest()
        configs = [self.checkpoint.text_digest(part).hex() for part in self.text_parts]
        files = [path for part in self.text_parts for path in self.checkpoint.files(part)]
        files += [path for lora in self.loras for path in lora.weights.files]
        return self._digests.fingerprint(f"{versions} {FUSED} {code} {configs} {self.applied}", files)

    def tokenizer(self, part: str) -> bytes:
        """The tokenizer of a text encoder, cut and padded to its context length, for `text.unpacked`."""
        return text.packed(self.checkpoint.tokenizer(part), self.embedding_shape[0])

    def text_network(self, part: str) -> nn.Module:
        """A text encoder from token numbers, and gains where `adapted` has branches, to what the UNet takes; float32."""
        encoder = self.checkpoint.text_encoder(part)[1]
        self.adapted.add_to(part, encoder)
        whole = text.LastHidden(encoder) if self.pooled_size is None else text.Penultimate(encoder, part == "text_encoder_2")
        return self.adapted.taking_gains(whole)

    @cached_property
    def encode_weighted(self) -> WeightedTexts:
        """Prompts with what their syntax gives. Reads the text encoders once more, for torch."""
        encoders = {}
        for part in self.text_parts:
            tokenizer, encoder = self.checkpoint.text_encoder(part)
            self.adapted.add_to(part, encoder, torch_only=True)
            tokenizer.model_max_length = self.embedding_shape[0]
            encoders[part] = (tokenizer, encoder)
        return WeightedTexts(encoders, self.pooled_size is not None, self.embeddings)

    @cached_property
    def encode_prompt(self) -> text.Encode:
        """Prompts through torch; graphs of the same encoders are in pipelines/graphs/texts.py."""
        return text.combined(
            [text.unpacked(self.tokenizer(part)) for part in self.text_parts],
            [self.adapted.with_gains(self.text_network(part)) for part in self.text_parts],
        )

    def parse_prompt(self, words: str) -> Weighted:
        """The parts and weights of a prompt, from its syntax. A model with a table of words has none: its prompts are its own."""
        return Weighted((((words, 1.0),),) if words else ()) if self.has_words else parse(words)

    @cached_property
    def read_words(self) -> Callable[[str], Reading]:
        """A typed prompt to the model's own words, where its folder has a table of free words; else as it is. Any thread.
        Raises ModelError for a broken table."""
        folder = self.checkpoint.folder if isinstance(self.checkpoint, FolderCheckpoint) else None
        reader = None if folder is None else read_words(folder, self.vocabulary)
        return untouched if reader is None else reader.read

    def read_prompt(self, prompt: str, named: Sequence[PictureStyle] = ()) -> tuple[str, Style | None]:
        """(words for the text encoder, style of the painter) of a typed prompt. named: styles of pictures that the prompt named
        beside these words; all styles mix in equal shares. Any thread."""
        words, style = self.styles.read(self.read_words(prompt).text)
        return (words, style) if not named else beside(words, style, [with_tone(torch.from_numpy(one.numbers)) for one in named])

    def read_names(self, prompt: str, names: StyleNames) -> tuple[str, Named]:
        """`StyleNames.read` for this model's painter."""
        return names.read(prompt, self.painter_fingerprint if len(names) and self.has_painter else None)
