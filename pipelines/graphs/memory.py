"""Will a model fit? An estimate from file headers and configurations, made before a single weight is read.

The factors are from starts that were watched (`app.py bench loading`), GiB estimated / measured on two cores, without the 0.57
that a process has when it has imported its libraries: SD-Turbo's shape at 512, openvino bfloat16 7.94 / 7.95, eager bfloat16
3.67 / 3.69; every width halved, openvino bfloat16 2.70 / 2.66, float32 3.51 / 3.47, eager bfloat16 1.06 / 1.21; the pocket model
at 256, openvino bfloat16 0.36 / 0.35. torch.compile counts like eager on a CPU, and its graphs' pool on a GPU is a guess: neither
has been watched. Half the widths at 256 had built no picture after five minutes on two busy cores; the compiler itself took
0.1 GiB in this process for one graph of a miniature.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from pipelines.checkpoints.loader.files import read_header
from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.graphs import malloc_trim
from pipelines.networks import svdquant
from pipelines.values.types import MemoryShortError, StreamSpec

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 4, "int4": 4}  # the buffers of the last two are floats
READ_AS = 4  # float32, in which text encoders are kept, and what OpenVINO converts
FEED_FORWARD = 8  # a transformer's gated feed-forward holds 2·4·C numbers per token
TRACED = 8  # hidden states of its last block, in float32, while a full autoencoder's decoder is traced
ALIVE = 4  # the same while it decodes: the block's input, a layer's input and output, what the convolution works in
BUFFERED = 1.5  # OpenVINO keeps the buffers of every graph: beside the decoder's the encoder's, which is half as wide
EXPORTED = 3  # what is exported, its file as TensorRT reads it, and the engine; a guess, which has not been watched
PER_TENSOR = 700_000  # bytes that OpenVINO holds for each tensor of a network beside its numbers: nodes, generated code


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a pipeline takes at its peak in one place, "cpu" or a CUDA device."""

    place: str
    weights: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.activations


@dataclass(frozen=True, slots=True)
class Stored:
    """What files hold: how many numbers, in how many bytes, in how many tensors."""

    count: int = 0
    bytes: int = 0
    tensors: int = 0

    def __add__(self, other: Stored) -> Stored:
        return Stored(self.count + other.count, self.bytes + other.bytes, self.tensors + other.tensors)


def stored(path: Path) -> Stored:
    """What a .safetensors file holds, from its header alone. ModelError for a file that is none or is cut short."""
    tensors, _ = read_header(path, f"{path.parent.name}/{path.name}")
    count, size = sum(info.count for info in tensors.values()), sum(info.bytes for info in tensors.values())
    return Stored(count, size, len(tensors))


def has_compressible(path: Path) -> bool:
    """Whether a .safetensors file holds a weight that int4 stores in 4 bits. ModelError as for `stored`."""
    tensors, _ = read_header(path, f"{path.parent.name}/{path.name}")
    return any(svdquant.worth_stored(name, info.shape) for name, info in tensors.items())


def stored_in(files: Iterable[Path]) -> Stored:
    """What all these files hold. Raises ModelError."""
    return sum(map(stored, files), Stored())


def activations(unet: Mapping[str, Any], vae: Mapping[str, Any], width: int, height: int, rows: int) -> int:
    """Numbers alive at the widest moment: of the UNet at `rows` rows, or of the decoder at one picture; sizes in pixels.

    unet, vae: their config.json. The decoder's last blocks run at the picture's full size.
    """
    return max(_passing(unet, width, height, rows), ALIVE * _decoded(vae, width, height))


def _size(spec: StreamSpec) -> int:
    """Bytes of a number of a resolved spec; on a GPU those of what torchao leaves alone."""
    return BYTES["bfloat16" if spec.device != "cpu" and spec.dtype in StreamSpec.QUANTISED else spec.dtype]


def graph_bytes(
    weights: int, unet: Mapping[str, Any], vae: Mapping[str, Any], spec: StreamSpec, rows: int, pictures: bool
) -> int:
    """What one more graph takes in a resolved spec. weights: numbers that it holds for itself, 0 where all share a module's.
    pictures: it is one of the autoencoder's, else of the UNet's.

    Watched as the growth of the process's resident set (psutil) by reading a graph from disk and ten runs: full passes of pocket
    at 512 x 512 in float32, estimated / measured in MB: two rows 163 / 168, four rows 187 / 190.
    """
    size = _size(spec)
    held = ALIVE * rows * _decoded(vae, spec.width, spec.height) if pictures else _passing(unet, spec.width, spec.height, rows)
    return (READ_AS + size) * weights + size * held


GRAPHS_SHARE = 4
"""By default, further graphs take at most this part (1/4) of the memory that is free once the model is loaded, ..."""

GRAPHS_AT_MOST = 1_250_000_000, 2.0
"""... and at most the larger of these bytes and this multiple of the model's own need. What a visitor leaves behind is soon
evicted then: with a fourth of 22 GB alone, ten minutes of random settings took pocket from 2.9 to 6.9 GiB (`bench soak`)."""


def default_graphs(needs: Sequence[Need], free: int) -> int:
    """Bytes for graphs beside the plain ones, where the operator names none. free: bytes, once the model is loaded."""
    smallest, times = GRAPHS_AT_MOST
    return min(free // GRAPHS_SHARE, max(smallest, int(times * needs[-1].total)))


def _passing(unet: Mapping[str, Any], width: int, height: int, rows: int) -> int:
    """Numbers alive in the UNet: one skip per layer, and the widest of its transformers."""
    layers = unet.get("layers_per_block", 2)  # the defaults of diffusers, for a hand-made configuration
    channels = unet.get("block_out_channels", (320, 640, 1280, 1280))
    per_level = layers if isinstance(layers, list) else [layers] * len(channels)
    cells = [(width // 8 >> k) * (height // 8 >> k) for k in range(len(channels))]
    skips = sum((n + 1) * c * area for n, c, area in zip(per_level, channels, cells, strict=True))
    widest = FEED_FORWARD * max(c * area for c, area in zip(channels, cells, strict=True))
    return rows * (skips + widest)


def _decoded(vae: Mapping[str, Any], width: int, height: int) -> int:
    """Numbers in one hidden state of the decoder's last block."""
    decoder = vae.get("decoder_block_out_channels") or vae.get("block_out_channels", (64,))
    return max(decoder[:2]) * width * height


def estimate(
    networks: Stored, texts: Stored, unet: Mapping[str, Any], vae: Mapping[str, Any], spec: StreamSpec
) -> tuple[Need, ...]:
    """What a pipeline needs for a resolved spec, at its peak: one Need per place. Pure.

    networks: UNet, autoencoder and what else becomes graphs, converted from the files' dtype while the files are still mapped;
    texts: text and picture encoders, which are float32 in main memory and are read last. On a CPU, OpenVINO holds the torch
    weights in float32 and the compiled ones, and each of its graphs keeps buffers of its own; before that the decoder is traced.
    On a GPU the weights pass through main memory as they are in the files.
    """
    size = _size(spec)
    held = size * activations(unet, vae, spec.width, spec.height, spec.max_steps)
    encoders = READ_AS * texts.count
    if spec.device != "cpu":
        graphs = 2 if spec.backend == "compile" else 1  # a CUDA graph's pool stays, beside what eager parts take
        exported = EXPORTED * networks.bytes if spec.backend == "tensorrt" else networks.bytes
        main = Need("cpu", max(exported, texts.bytes + encoders), 0)
        return main, Need(spec.device, size * networks.count, graphs * held)
    if spec.backend == "openvino":
        layers = PER_TENSOR * networks.tensors
        resident = layers + (READ_AS + size) * networks.count
        traced = READ_AS * TRACED * _decoded(vae, spec.width, spec.height) if vae.get("_class_name") == "AutoencoderKL" else 0
        building, kept = Need("cpu", layers, traced), int(BUFFERED * held)
    else:
        resident = size * networks.count
        building, kept = Need("cpu", resident + networks.bytes, 0), held
    copies = 2 if spec.backend == "openvino" else 1  # the module that is converted, and its graph
    reading, running = Need("cpu", resident + texts.bytes + copies * encoders, 0), Need("cpu", resident + encoders, kept)
    return (max(building, reading, running, key=lambda need: need.total),)


def estimate_of(parts: ModelParts, spec: StreamSpec) -> tuple[Need, ...]:
    """The estimate for a model that has been located and checked, in a resolved spec. Raises ModelError."""
    small = () if parts.small is None else parts.small.network_files
    networks, texts = stored_in((*parts.network_files, *small)), stored_in(parts.encoder_files)
    return estimate(networks, texts, parts.unet_config, parts.vae_config, spec)


def free_bytes(place: str) -> int:
    """Memory that can be had now without swapping, in bytes."""
    if place == "cpu":
        return int(psutil.virtual_memory().available)
    return int(torch.cuda.mem_get_info(place)[0])


def with_graphs(needs: Sequence[Need], graphs: int) -> tuple[Need, ...]:
    """The needs with so many bytes for more graphs, where the pipeline runs: in the last place."""
    *others, last = needs
    return (*others, dataclasses.replace(last, activations=last.activations + graphs))


def require(needs: Iterable[Need], free: Callable[[str], int]) -> None:
    """`free` as free_bytes. Raises MemoryShortError with both numbers for the first place where a need does not fit."""
    for need in needs:
        available = free(need.place)
        if need.total > available:
            place = "memory" if need.place == "cpu" else f"memory on {need.place}"
            raise MemoryShortError(
                f"needs about {readable(need.total)} of {place} (weights {readable(need.weights)}, "
                f"activations {readable(need.activations)}); {readable(available)} are free"
            )


def readable(count: int) -> str:
    """ "3.4 GB" or "270 MB" """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def release() -> None:
    """Free what is no longer referred to: Python's cycles, the heap, then the device's cache. Takes tenths of a second."""
    malloc_trim.trim()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
