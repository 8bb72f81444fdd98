"""Finds the weight files of a checkpoint and checks their safetensors headers before a library opens them.

Uses neither torch nor the network. All functions raise ModelError, which names the file.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.checkpoints.loader import gguf_file
from pipelines.values.reader import ModelFolder, other_kind, parse_json, require_file
from pipelines.values.types import ModelError

MAX_HEADER = 16 * 2**20  # SDXL's largest file has a header of 0.4 MB
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip
SCALES = (".scale_weight", ".weight_scale")
FP8_NOTES = ("scaled_fp8", ".scale_input", ".input_scale", ".comfy_quant")
"""Ends of names beside fp8 tensors: their scales, and what only products in fp8 need."""

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
STEMS = ("diffusion_pytorch_model", "model", "pytorch_lora_weights")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor's entry in a header: dtype in safetensors' notation, and shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.count * BITS[self.dtype] // 8


@dataclass(frozen=True, slots=True)
class Weights:
    """The safetensors files of one part, and the file of every tensor.

    scales: name of an fp8 tensor → name of the number, or the row of numbers, that it is multiplied by. These are no tensors.
    """

    files: tuple[Path, ...]
    tensors: Mapping[str, TensorInfo]
    homes: Mapping[str, Path] = field(repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict)
    scales: Mapping[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(info.bytes for info in self.tensors.values())

    @property
    def dtype(self) -> str:
        """The dtype of most values."""
        counts: dict[str, int] = {}
        for info in self.tensors.values():
            counts[info.dtype] = counts.get(info.dtype, 0) + info.count
        return max(counts, key=lambda name: counts[name]) if counts else "F32"


class Folder(ModelFolder):
    """A checkpoint folder: a ModelFolder with weights."""

    def weights(self, part: str) -> Weights:
        """The weights of a part; "" for files of the folder itself. Raises ModelError, which names pickled files if there are
        no others."""
        folder = self.path(part)
        label = f"{self.name}/{part}".rstrip("/")
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        chosen = choose_weights(names)
        if chosen is None:
            pickled = [name for name in names if Path(name).suffix in PICKLED]
            reason = f"only pickled weights ({pickled[0]}), which are refused" if pickled else "no .safetensors file"
            raise ModelError(f"{label}: {reason}")
        others = unnamed_weights(names)
        if chosen in others and len(others) > 1:
            raise ModelError(f"{label}: has several files ({', '.join(others)}); name one of them")
        prefix = f"{part}/" if part else ""
        if not chosen.endswith(".json"):
            return read_weights([self.path(prefix + chosen)], label)
        return self._sharded(prefix, chosen, label)

    def _sharded(self, prefix: str, index: str, label: str) -> Weights:
        """Weights in several shards. Checks that every shard exists and that every tensor is in the shard of the index."""
        homes = self.json(prefix + index).get("weight_map")
        if not isinstance(homes, dict) or not homes or not all(isinstance(name, str) for name in homes.values()):
            raise ModelError(f"{label}/{index}: has no weight_map")
        shards = sorted(set(homes.values()))
        for shard in shards:
            if "/" in shard or "\\" in shard or not shard.endswith(".safetensors"):
                raise ModelError(f"{label}/{index}: {shard!r} is not a file name in the same folder")
        weights = read_weights([self.path(prefix + shard) for shard in shards], label)
        for tensor in homes:
            if tensor not in weights.tensors:
                raise ModelError(f"{label}/{index}: tensor {tensor!r} is in none of the shards")
        return weights


def choose_weights(names: Iterable[str]) -> str | None:
    """The file of a part to load, from its file names: one file or an index of shards. Preference: half precision (half the
    download and memory), then full precision, then any other single .safetensors file; never the non-EMA copy of some
    repositories. None if there is no such file."""
    known = set(names)
    for stem in STEMS:
        for variant in (".fp16", ""):
            index = f"{stem}.safetensors.index{variant}.json"
            for name in (f"{stem}{variant}.safetensors", index, f"{stem}{variant}.safetensors.index.json"):
                if name in known:
                    return name
    return next(iter(unnamed_weights(known)), None)


def unnamed_weights(names: Iterable[str]) -> list[str]:
    """The .safetensors files under other names than diffusers', sorted."""
    found = (name for name in names if name.endswith(".safetensors") and ".non_ema" not in name and "-of-" not in name)
    return sorted(name for name in found if not name.startswith(STEMS))


def read_weights(paths: Iterable[Path], label: str) -> Weights:
    """Weights from the headers of safetensors files; tensors are not read. Raises ModelError."""
    tensors: dict[str, TensorInfo] = {}
    homes: dict[str, Path] = {}
    metadata: dict[str, str] = {}
    files = tuple(paths)
    for path in files:
        found, notes = read_header(path, f"{label}/{path.name}" if path.name not in label else label)
        for name in found.keys() & tensors.keys():
            raise ModelError(f"{label}: tensor {name!r} is in {homes[name].name} and in {path.name}")
        tensors.update(found)
        homes.update(dict.fromkeys(found, path))
        metadata.update(notes)
    scales = _take_scales(tensors, label)
    return Weights(files, tensors, homes, metadata, scales)


def _take_scales(tensors: dict[str, TensorInfo], label: str) -> dict[str, str]:
    """Take the scales of fp8 tensors out of `tensors`: the layout of ComfyUI. Raises ModelError for one without its tensor."""
    if not any(info.dtype.startswith("F8_") for info in tensors.values()):
        return {}
    scales = {}
    for name in [name for name in tensors if name.endswith(SCALES)]:
        scaled = name.removesuffix(".scale_weight").removesuffix(".weight_scale") + ".weight"
        if scaled not in tensors:
            raise ModelError(f"{label}: {name!r} scales {scaled!r}, which is not in the file")
        scales[scaled] = name
    for name in [name for name in tensors if name.endswith((*SCALES, *FP8_NOTES))]:
        del tensors[name]
    return scales


def read_header(path: Path, label: str) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """(tensors, metadata) of a safetensors file: eight bytes of length, JSON, then the tensors without gaps; or of a GGUF file,
    with the dtypes that its tensors are read as.

    Raises ModelError for a file that is missing or truncated, or whose header does not describe its bytes exactly.
    """
    size = require_file(path, label)
    if path.suffix == gguf_file.SUFFIX:
        return {name: TensorInfo(*info) for name, info in gguf_file.header(path, label).items()}, {}
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
            if (what := other_kind(start + file.read(64))) is not None and not 0 < length <= MAX_HEADER:
                raise ModelError(f"{label}: is {what}")
            file.seek(len(start))
            if length > MAX_HEADER:
                raise ModelError(f"{label}: its header claims {length} bytes; {MAX_HEADER} are allowed")
            raw = file.read(length) if length >= 0 else b""
    except OSError as error:
        raise ModelError(f"{label}: {error.strerror or error}") from error
    if length < 0 or len(raw) < length:
        raise ModelError(f"{label}: is truncated; it ends within its header")
    header = parse_json(raw, f"{label}: its header", unique=True)
    try:
        metadata = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
        spans = sorted((_span(entry), name, entry) for name, entry in header.items())
        tensors = {name: TensorInfo(entry["dtype"], tuple(entry["shape"])) for _, name, entry in spans}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{label}: its header is not a safetensors header: {error}") from error
    end = 0
    for (first, last), name, _ in spans:
        if first != end or last - first != tensors[name].bytes:
            raise ModelError(f"{label}: the span of tensor {name!r} does not match its shape and dtype")
        end = last
    if 8 + length + end != size:
        state = "is truncated" if size < 8 + length + end else "is longer than its header describes"
        raise ModelError(f"{label}: {state}: {size} bytes, of {8 + length + end}")
    return tensors, metadata


def _span(entry: Mapping[str, Any]) -> tuple[int, int]:
    first, last = entry["data_offsets"]
    if entry["dtype"] not in BITS:
        raise ValueError(f"unknown dtype {entry['dtype']!r}")
    numbers = [first, last, *entry["shape"]]
    if any(isinstance(number, bool) or not isinstance(number, int) or number < 0 for number in numbers):
        raise ValueError("a shape or an offset is not a whole number")
    return first, last
