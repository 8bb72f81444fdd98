"""The files of a model, from its entry: checkpoint, other UNet, tiny autoencoder, LoRAs, ControlNet, adapter, painter.

Everything is checked before loading: layout, classes, files inside their folder, headers that describe their files, no pickled
weights. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.checkpoints.loader import embeddings
from pipelines.checkpoints.loader.configs import AUTOENCODERS, pools_text
from pipelines.checkpoints.loader.control import ControlFolder, adapter_places
from pipelines.checkpoints.loader.embeddings import Embeddings
from pipelines.checkpoints.loader.fingerprints import FUSED, FileDigests, Fingerprints
from pipelines.checkpoints.loader.folder import FolderCheckpoint
from pipelines.checkpoints.loader.hub import locate
from pipelines.checkpoints.loader.lora import LoraFile
from pipelines.checkpoints.loader.picture import PictureFiles
from pipelines.checkpoints.loader.replacement import Replacement
from pipelines.checkpoints.loader.single import SingleFileCheckpoint, usual_autoencoder
from pipelines.checkpoints.loader.unet_config import SPATIAL_FACTOR, Beside, beside, check_autoencoder, check_unet
from pipelines.techniques.edm import data_deviation, is_edm
from pipelines.values.models import Hub, ModelInfo, PictureAdapter
from pipelines.values.types import ModelError

WORDS = "words/words.json"
"""The table of words in a model's folder (words.py)."""

CALIBRATION = "calibration"
"""Folder of the calibration pictures for int8, beside the weights."""

TIME_IDS = 6  # original height and width, top and left of the crop, target height and width


class ModelFiles:
    """A located and checked model. The constructor raises ModelError, which names the file or field.

    offline: use only files on this machine. Otherwise missing files are downloaded, with a progress bar.
    """

    def __init__(self, info: ModelInfo, offline: bool = False) -> None:
        self.info, self._offline = info, offline
        base = locate(info.base, offline)
        is_file = base.suffix == ".safetensors" or base.is_file()
        self.checkpoint = (
            SingleFileCheckpoint(base, info.prediction, info.autoencoder is None)
            if is_file
            else FolderCheckpoint(base, info.autoencoder is None)
        )
        self.name = self.checkpoint.name
        configs = self.checkpoint.configs
        self._unet = None if info.unet is None else Replacement(locate(info.unet, offline), "unet", configs["unet"])
        other = info.autoencoder
        self._vae = (
            None
            if other is None
            else Replacement(locate(other, offline), "vae", configs.get("vae") or usual_autoencoder(configs["unet"]))
        )
        self.loras = self.lora_files(info, offline)
        self.branched = 0
        self._digests = FileDigests()
        self.unet_config = self.checkpoint.configs["unet"] if self._unet is None else self._unet.config
        self.vae_config = self.checkpoint.configs["vae"] if self._vae is None else self._vae.config
        if self.vae_config.get("_class_name") not in AUTOENCODERS:
            kinds = ", ".join(AUTOENCODERS)
            raise ModelError(f"{self.name}: autoencoder {self.vae_config.get('_class_name')!r} is not one of {kinds}")
        self.vocabulary = info.vocabulary
        self._check_sizes()
        if info.embeddings:
            self.embeddings  # noqa: B018 - raises
        self.control_files = tuple(
            ControlFolder(locate(use.location, offline), self._plain_unet, use.map, use.weight) for use in info.controls
        )
        if len({control.is_adapter for control in self.control_files}) > 1:
            names = " and ".join(control.name for control in self.control_files)
            raise ModelError(f"{names}: a T2I-Adapter beside a ControlNet is not supported; use several of one kind")
        self._picture = None if info.picture is None else PictureFiles(*_adapter(info.picture, offline), self.unet_config)

    def lora_files(self, info: ModelInfo, offline: bool) -> tuple[LoraFile, ...]:
        """The LoRAs of an entry with this checkpoint. Raises ModelError."""
        loras = tuple(LoraFile(locate(lora.location, offline), lora.strength) for lora in info.loras)
        for lora in loras:
            if strange := sorted(lora.layers.keys() - self.checkpoint.configs.keys()):
                raise ModelError(f"{lora.name}: is for another model: it has layers for {strange[0]}, which {self.name} lacks")
        return loras

    @property
    def fused(self) -> tuple[LoraFile, ...]:
        """The LoRAs that are in the weights. The last `branched` ones are branches beside them."""
        return self.loras[: len(self.loras) - self.branched]

    @property
    def in_branches(self) -> tuple[LoraFile, ...]:
        """The LoRAs that are branches."""
        return self.loras[len(self.loras) - self.branched :]

    def branch(self, count: int) -> None:
        """Make branches of the last `count` LoRAs, if all of them have the form for it; before any network is read."""
        self.branched = count if all(lora.low_rank for lora in self.loras[len(self.loras) - count :]) else 0

    def change_loras(self, info: ModelInfo, loras: tuple[LoraFile, ...]) -> None:
        """The networks have other LoRAs now: these, of another entry of the same model."""
        self.info, self.loras = info, loras
        self.__dict__.pop("fingerprints", None)

    @cached_property
    def calibration(self) -> tuple[Path, ...]:
        """Calibration pictures for int8; empty if the model's folder has none."""
        if not isinstance(self.checkpoint, FolderCheckpoint):
            return ()
        return tuple(self.checkpoint.folder.files(CALIBRATION, "*.jpg"))

    @cached_property
    def gated(self) -> bool:
        """Whether the UNet mixes its output with the noisy latent (pipelines.networks.latent_gate)."""
        folder = isinstance(self.checkpoint, FolderCheckpoint)
        return folder and any(name.startswith("latent_gate.") for name in self.shapes("unet"))

    @property
    def latent_channels(self) -> int:
        return int(self.unet_config["out_channels"])

    @property
    def beside(self) -> Beside | None:
        """What the UNet takes beside its latent: mask and masked picture, the picture, or nothing."""
        return beside(int(self.unet_config["in_channels"]), self.latent_channels)

    @property
    def source_scale(self) -> float:
        """Factor from a latent to the one that a UNet takes beside its own (`beside` "source"). InstructPix2Pix takes it without
        the autoencoder's scale, CosXL's edit model with it, as diffusers does."""
        if is_edm(self.checkpoint.scheduler) or self.checkpoint.index.get("is_cosxl_edit"):
            return data_deviation(self.checkpoint.scheduler)
        return 1.0 / float(self.vae_config.get("scaling_factor", 1.0))

    @property
    def _plain_unet(self) -> dict[str, Any]:
        """The UNet's configuration without what it takes beside its latent, as a ControlNet has it."""
        return {**self.unet_config, "in_channels": self.latent_channels}

    @property
    def size_multiple(self) -> int:
        """Width and height in pixels must be multiples of this: each level of the UNet but the last halves the latent."""
        return int(SPATIAL_FACTOR * 2 ** (len(self.unet_config["down_block_types"]) - 1))

    @property
    def network_files(self) -> tuple[Path, ...]:
        """The weight files of the graphs, each once, even if it contains several parts."""
        return tuple(dict.fromkeys(self._files()))

    @property
    def encoder_files(self) -> tuple[Path, ...]:
        """The weight files of text and picture encoders."""
        texts = (path for part in self.checkpoint.configs if part.startswith("text") for path in self.checkpoint.files(part))
        readers = tuple(self.checkpoint.files("style_reader")) if self.reads_styles else ()
        pictures = readers if self._picture is None else self._picture.encoder_files
        return tuple(path for path in dict.fromkeys((*texts, *pictures)) if path not in self.network_files)

    @property
    def branches(self) -> int:
        """The number of re-entry points of the feature cache: one for each up layer."""
        layers, blocks = self.unet_config["layers_per_block"], len(self.unet_config["up_block_types"])
        per_block = layers if isinstance(layers, list) else [layers] * blocks
        return sum(count + 1 for count in per_block)

    @property
    def embedding_shape(self) -> tuple[int, int]:
        """(L, D) of a prompt embedding."""
        return int(self.checkpoint.configs["text_encoder"]["max_position_embeddings"]), int(
            self.unet_config["cross_attention_dim"]
        )

    @property
    def pooled_size(self) -> int | None:
        """P of the pooled text, None for a UNet without this input."""
        if not pools_text(self.unet_config):
            return None
        times = TIME_IDS * int(self.unet_config["addition_time_embed_dim"])
        return int(self.unet_config["projection_class_embeddings_input_dim"]) - times

    @property
    def w_size(self) -> int | None:
        """W of the guidance embedding of a distilled LCM, None for a UNet without one."""
        size = self.unet_config.get("time_cond_proj_dim")
        return None if size is None else int(size)

    @property
    def added_sizes(self) -> tuple[int, ...]:
        """Sizes of the passes' added inputs, in their order: pooled text, time ids, guidance embedding."""
        pooled = () if self.pooled_size is None else (self.pooled_size, TIME_IDS)
        return pooled if self.w_size is None else (*pooled, self.w_size)

    @property
    def has_control(self) -> bool:
        """Whether it has a ControlNet or a T2I-Adapter."""
        return bool(self.control_files)

    @property
    def takes_maps(self) -> bool:
        """Whether one of its ControlNets takes the kind of its map as an input."""
        return any(control.is_union for control in self.control_files)

    @cached_property
    def inside(self) -> tuple[int, ...] | None:
        """Where the UNet takes the features of a T2I-Adapter, as `adapter_places`; None without one."""
        if not any(control.is_adapter for control in self.control_files):
            return None
        made = min(
            len(control.config["channels"]) + (control.config["adapter_type"] == "light_adapter")
            for control in self.control_files
        )
        return adapter_places(self.unet_config)[:made]

    @property
    def picture_tokens(self) -> int:
        """T of a picture prompt, 0 without an adapter for picture prompts."""
        return 0 if self._picture is None else self._picture.tokens

    @property
    def empty_is_zero(self) -> bool:
        """Whether an absent negative prompt is an embedding of zeros (SDXL) instead of the empty prompt's."""
        return self.checkpoint.empty_is_zero

    @property
    def upcasts_autoencoder(self) -> bool:
        """Whether the autoencoder overflows in float16 and has to be computed in float32 there (SDXL's own)."""
        return bool(self.vae_config.get("force_upcast", False)) and self.vae_config["_class_name"] == "AutoencoderKL"

    @cached_property
    def fingerprints(self) -> Fingerprints:
        """What graphs on disk are named after."""
        made, scheduler = self._digests.fingerprint, self.checkpoint.scheduler
        # graphs of an EDM model scale latents and read timesteps otherwise
        scale = f"EDM {data_deviation(scheduler)}" if is_edm(scheduler) else ""
        controls = [(control.weight, sorted(control.config.items())) for control in self.control_files]
        beside = f"{self.embedding_shape} {self.applied} {scale}"
        return Fingerprints(
            made(f"{_sorted(self.unet_config)} {beside}", self._unet_files()),
            made(f"{_sorted(self.vae_config)} {scale}", self._vae_files()),
            made(_sorted(self.checkpoint.configs["painter"]), self._painter_files()) if self.has_painter else "",
            made(f"{controls}", self._control_files()) if self.has_control else "",
        )

    @property
    def applied(self) -> str:
        """How the LoRAs' files are applied, as a part of fingerprints. The weight of a branch is an input of its graphs."""
        return "".join([*(f"{FUSED}{lora.strength}" for lora in self.fused), "branch" * self.branched])

    @property
    def has_painter(self) -> bool:
        """Whether a painter follows the decoder."""
        return isinstance(self.checkpoint, FolderCheckpoint) and "painter" in self.checkpoint.configs

    @property
    def reads_styles(self) -> bool:
        """Whether pictures can be read as styles of the painter."""
        return self.has_painter and "style_reader" in self.checkpoint.configs

    @property
    def has_words(self) -> bool:
        """Whether it has a table of words, which replaces the syntax of prompts."""
        return isinstance(self.checkpoint, FolderCheckpoint) and self.checkpoint.folder.has(WORDS)

    @property
    def text_parts(self) -> tuple[str, ...]:
        """The text encoders, in the order in which their hidden states stand side by side."""
        return ("text_encoder",) if self.pooled_size is None else ("text_encoder", "text_encoder_2")

    @property
    def max_clip_skip(self) -> int:
        """How many layers of the text encoder may be left out: one remains. None of a model with a table of words."""
        layers = min(int(self.checkpoint.configs[part]["num_hidden_layers"]) for part in self.text_parts)
        return 0 if self.has_words else max(0, layers - (1 if self.pooled_size is None else 2))

    @cached_property
    def embeddings(self) -> Embeddings:
        """The textual inversions that prompts may name: those of the model's name, then those of the folder beside its weights.
        Raises ModelError for one of the name that is not for this model."""
        if self.has_words:
            return Embeddings()
        home = self.checkpoint.folder.path("") if isinstance(self.checkpoint, FolderCheckpoint) else self.checkpoint.path.parent
        widths = {part: int(self.checkpoint.configs[part]["hidden_size"]) for part in self.text_parts}
        given = [locate(place, self._offline) for place in self.info.embeddings]
        folders = [*(path for path in given if path.is_dir()), home / embeddings.FOLDER]
        return embeddings.all_of(folders, [path for path in given if not path.is_dir()], widths)

    def plan(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(part, configuration) of UNet, autoencoder, painter and style reader."""
        yield "unet", self.unet_config
        yield "vae", self.vae_config
        if self.has_painter:
            yield "painter", self.checkpoint.configs["painter"]
        if self.reads_styles:
            yield "style_reader", self.checkpoint.configs["style_reader"]

    def check_added(self, unet: Any) -> None:
        """Check a ControlNet and an adapter for picture prompts against the UNet, from headers. Raises ModelError."""
        for control in self.control_files:
            control.check(unet, adapter_places(self.unet_config))
        if self._picture is not None:
            self._picture.check(unet)

    def shapes(self, part: str) -> dict[str, tuple[int, ...]]:
        """Shapes of a network's tensors by their present names, from headers alone. Raises ModelError."""
        other = {"unet": self._unet, "vae": self._vae}.get(part)
        if other is not None:
            return other.shapes()
        if isinstance(self.checkpoint, SingleFileCheckpoint):
            return self.checkpoint.shapes(part)
        return {name: info.shape for name, info in self.checkpoint.weights[part].tensors.items()}

    def _files(self) -> Iterator[Path]:
        yield from self._unet_files()
        yield from self._vae_files()
        yield from self._painter_files()
        yield from self._control_files()

    def _unet_files(self) -> Iterator[Path]:
        """The files of the UNet and of what is applied to it."""
        yield from self.checkpoint.files("unet") if self._unet is None else self._unet.weights.files
        for lora in self.loras:
            yield from lora.weights.files
        if self._picture is not None:
            yield from self._picture.weights.files

    def _vae_files(self) -> Iterable[Path]:
        return self.checkpoint.files("vae") if self._vae is None else self._vae.weights.files

    def _painter_files(self) -> Iterable[Path]:
        return self.checkpoint.files("painter") if self.has_painter else ()

    def _control_files(self) -> Iterator[Path]:
        for control in self.control_files:
            yield from control.weights.files

    def _check_sizes(self) -> None:
        """Check that the parts fit each other: channels of the latents, widths of the texts."""
        check_unet(self.unet_config, self.name)
        check_autoencoder(self.vae_config, self.name)
        latents = self.vae_config.get("latent_channels")
        if latents != self.latent_channels:
            raise ModelError(
                f"{self.name}: the UNet takes {self.latent_channels} latent channels, the autoencoder makes {latents}"
            )
        configs = self.checkpoint.configs
        widths = [configs[part]["hidden_size"] for part in configs if part.startswith("text_encoder")]
        taken = self.unet_config.get("cross_attention_dim")
        if sum(widths) != taken:
            raise ModelError(f"{self.name}: the UNet takes texts of width {taken}; the text encoder makes {sum(widths)}")
        if self.pooled_size is not None and configs["text_encoder_2"]["projection_dim"] != self.pooled_size:
            raise ModelError(
                f"{self.name}: text_encoder_2 pools to {configs['text_encoder_2']['projection_dim']}, not {self.pooled_size}"
            )


def _adapter(adapter: PictureAdapter, offline: bool) -> tuple[Path, Path]:
    """The adapter's file or folder, and its picture encoder's folder. For a file of the hub it is the folder of the file."""
    encoder = locate(adapter.encoder, offline)
    if isinstance(adapter.encoder, Hub):
        beside = adapter.encoder.file.rpartition("/")[0] + "/config.json"
        encoder = locate(Hub(adapter.encoder.repo, adapter.encoder.revision, beside), offline).parent
    return locate(adapter.weights, offline), encoder


def _sorted(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)
