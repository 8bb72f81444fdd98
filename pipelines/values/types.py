"""The values that flow through the engine. They depend on numpy only, and validate themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""A picture: uint8, [height, width, 3], RGB."""

Mask = NDArray[np.uint8]
"""A painted strength map: uint8, [height, width] of any size, 255 for full strength."""

NEUTRAL = (128, 128, 128)
"""RGB behind transparent pixels: on mid grey a black shape and a white one are both seen."""

Verdict = Literal["generated", "cached", "skipped", "warming"]
"""generated: full passes only; cached: features of another pass were reused; skipped: the gate found the input unchanged;
warming: the stream batch is not yet full."""


class RillError(Exception):
    """Base class of all errors with a message for the user."""


class SettingsError(RillError):
    """A setting is unknown or out of range. `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.reason = message


class SpecError(RillError):
    """A StreamSpec cannot be built. `field` names the wrong field."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.reason = message


class ModelError(RillError):
    """A model folder is missing, broken or of an unknown layout. The message names the file or field."""


class PatchWorkerError(RillError):
    """The process that computes half of each picture on a second device is gone. The message names the device and the reason."""


class MemoryShortError(RillError):
    """A model does not fit into the free memory. The message contains both numbers."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One source picture.

    id: rises strictly within a session. captured_at: seconds of the source's clock. pixels: None for prompt-only streaming,
    where the model generates from noise alone. thumb: `gate.thumbnail(pixels)` if it has been computed already.
    """

    id: int
    captured_at: float
    pixels: Pixels | None
    thumb: NDArray[np.float32] | None = None


MAX_LORAS = 8
MAX_NAME = 400
MAX_LORA_WEIGHT = 4.0


@dataclass(frozen=True, slots=True)
class LoraUse:
    """A LoRA of a stream. name: a file, a hub id or a registered extra, as after "+" in `--model`. weight: −4..4; 1 is as
    trained, 0 is off. Raises SpecError."""

    name: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 0 < len(self.name) <= MAX_NAME or not self.name.isprintable():
            raise SpecError("loras", f"{str(self.name)[:40]!r} is not the name of a LoRA")
        weight = self.weight
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not -MAX_LORA_WEIGHT <= weight <= MAX_LORA_WEIGHT:
            allowed = f"a number from {-MAX_LORA_WEIGHT:g} to {MAX_LORA_WEIGHT:g} is"
            raise SpecError("loras", f"{str(weight)[:40]} is not a weight for {self.name[-40:]}; {allowed}")
        object.__setattr__(self, "weight", float(weight))


def lora_uses(given: object) -> tuple[LoraUse, ...]:
    """LoRAs from a list of LoraUse, or of objects {"name": ..., "weight": ...} from JSON. Raises SpecError."""
    if not isinstance(given, list | tuple) or len(given) > MAX_LORAS:
        raise SpecError("loras", f'must be a list of at most {MAX_LORAS} entries {{"name": ..., "weight": ...}}')
    uses = tuple(use if isinstance(use, LoraUse) else _lora_use(use) for use in given)
    names = [use.name for use in uses]
    for name in names:
        if names.count(name) > 1:
            raise SpecError("loras", f"{name[-40:]} is named twice")
    return uses


def _lora_use(entry: object) -> LoraUse:
    if not isinstance(entry, Mapping) or not {"name"} <= set(entry) <= {"name", "weight"}:
        raise SpecError("loras", 'every entry must have "name", and may have "weight"')
    fields: dict[str, Any] = dict(entry)
    return LoraUse(**fields)


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """The parameters that a pipeline is built for. A change rebuilds graphs and buffers.

    width, height: pixels, multiples of 64, 128..1024. backend: auto, eager, openvino (CPU), compile or tensorrt (GPU).
    dtype: auto, float32, bfloat16, float16 (GPU), int8 or int4 (openvino; compile on a GPU) or float8 (compile on a GPU). device:
    auto, cpu, cuda or cuda:N. max_steps: 1..8. loras: at most 8, added to those of the model's name. attention: auto, sdpa
    (torch's own) or xformers (GPU). hires: off, attention or full, what is done to the UNet at other sizes than its native one
    (techniques/hires.py). stitch: name of a second, smaller model, whose UNet takes the first levels; empty for none
    (techniques/stitch.py). patch_devices: none, or two that compute half of each picture each (backend eager); patch_exchange:
    what they exchange, synchronous, stale or border (pipelines/networks/patches.py). Raises SpecError.
    """

    model: str = "pocket"
    width: int = 512
    height: int = 512
    backend: str = "auto"
    dtype: str = "auto"
    device: str = "auto"
    max_steps: int = 4
    loras: tuple[LoraUse, ...] = ()
    attention: str = "auto"
    hires: str = "off"
    stitch: str = ""
    patch_devices: tuple[str, ...] = ()
    patch_exchange: str = "synchronous"

    BACKENDS = ("auto", "eager", "openvino", "compile", "tensorrt")
    DTYPES = ("auto", "float32", "bfloat16", "float16", "int8", "float8", "int4")
    QUANTISED = ("int8", "float8", "int4")
    ATTENTIONS = ("auto", "sdpa", "xformers")
    HIRES = ("off", "attention", "full")
    EXCHANGES = ("synchronous", "stale", "border")

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 128 <= value <= 1024 or value % 64:
                raise SpecError(name, f"{value!r} is not allowed; a multiple of 64 from 128 to 1024 is")
        if self.backend not in self.BACKENDS:
            raise SpecError("backend", f"{self.backend!r} is not one of {', '.join(self.BACKENDS)}")
        if self.dtype not in self.DTYPES:
            raise SpecError("dtype", f"{self.dtype!r} is not one of {', '.join(self.DTYPES)}")
        if self.attention not in self.ATTENTIONS:
            raise SpecError("attention", f"{self.attention!r} is not one of {', '.join(self.ATTENTIONS)}")
        if self.hires not in self.HIRES:
            raise SpecError("hires", f"{self.hires!r} is not one of {', '.join(self.HIRES)}")
        if not 1 <= self.max_steps <= 8:
            raise SpecError("max_steps", f"{self.max_steps!r} is not between 1 and 8")
        if not isinstance(self.stitch, str) or len(self.stitch) > MAX_NAME or (self.stitch and not self.stitch.isprintable()):
            raise SpecError("stitch", f"{str(self.stitch)[:40]!r} is not the name of a model; at most {MAX_NAME} characters are")
        if not self.model:
            raise SpecError("model", "is empty")
        object.__setattr__(self, "loras", lora_uses(self.loras))
        object.__setattr__(self, "patch_devices", tuple(self.patch_devices))
        self._check_patches()

    def _check_patches(self) -> None:
        if self.patch_exchange not in self.EXCHANGES:
            raise SpecError("patch_exchange", f"{self.patch_exchange!r} is not one of {', '.join(self.EXCHANGES)}")
        devices = tuple(map(str, self.patch_devices))
        if not devices:
            return
        gpus = all(device.startswith("cuda:") and device[5:].isdigit() for device in devices)
        if len(devices) != 2 or not (devices == ("cpu", "cpu") or (gpus and devices[0] != devices[1])):
            raise SpecError("patch_devices", f"{','.join(devices)!r} is not allowed; two GPUs, as cuda:0,cuda:1, or cpu,cpu are")
        if self.backend not in ("auto", "eager"):
            raise SpecError("patch_devices", f"only the eager backend computes a picture on two devices, not {self.backend}")
        if self.hires != "off" or self.stitch:
            raise SpecError("patch_devices", "a picture on two devices has neither hires nor stitch; leave them out")
        if self.device not in ("auto", devices[0]):
            raise SpecError("patch_devices", f"the first one, {devices[0]}, must be the device, which is {self.device}")


GRAPHS_ON_DISK = 10_000_000_000


@dataclass(frozen=True, slots=True)
class GraphLimits:
    """Limits of compiled graphs, in bytes.

    memory: for all graphs except the plain ones of one row, which always exist. None is 1.25 GB or twice the model, whichever is
    more, but at most a quarter of the free memory after the model is loaded. disk: for the graph files between starts.
    """

    memory: int | None = None
    disk: int = GRAPHS_ON_DISK


@dataclass(frozen=True, slots=True)
class GpuPath:
    """Optimisations on a GPU. All are on, except where a benchmark switches one off. On a CPU they have no effect.

    channels_last: convolutions in that layout. compiled: torch.compile (backend compile). graphs: CUDA graphs (backend
    compile). pinned: pinned buffers and asynchronous copies. overlap: encode, UNet and decode on separate streams. kernels:
    our Triton kernels.
    """

    channels_last: bool = True
    compiled: bool = True
    graphs: bool = True
    pinned: bool = True
    overlap: bool = True
    kernels: bool = True


@dataclass(frozen=True, slots=True)
class StageTimings:
    """Milliseconds of one frame in each stage; 0 for a stage that did not run."""

    receive: float = 0.0
    unpack: float = 0.0
    gate: float = 0.0
    encode: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0
    pack: float = 0.0
    send: float = 0.0

    @property
    def model(self) -> float:
        """Milliseconds in the model: encode, denoise and decode."""
        return self.encode + self.denoise + self.decode

    def __add__(self, other: StageTimings) -> Self:
        """Stage by stage."""
        return replace(self, **{stage: getattr(self, stage) + getattr(other, stage) for stage in STAGES})


STAGES = tuple(field.name for field in fields(StageTimings))
"""The stages of a frame in their order: the fields of StageTimings."""


@dataclass(frozen=True, slots=True)
class Quality:
    """The accelerated picture against the unaccelerated one of the same frame.

    ssim: -1..1; psnr: dB; flicker: mean absolute change (0..255) where the input did not move, None if it moved everywhere.
    """

    ssim: float
    psnr: float
    flicker: float | None = None


class Picture(Protocol):
    """A picture whose download from the device may still be running."""

    def numpy(self) -> Pixels:
        """The pixels, uint8 [height, width, 3]. Waits for the device if necessary, so call it outside the model thread."""
        ...


@dataclass(frozen=True, slots=True)
class HostPicture:
    """A picture in host memory."""

    pixels: Pixels

    def numpy(self) -> Pixels:
        return self.pixels


@dataclass(frozen=True, slots=True)
class Output:
    """The answer to one entry of a step.

    pixels is None if the last picture stays (skipped, warming). `superseded` lists frames in flight that will never be shown,
    because a newer one overtook them (a live change to fewer steps). `reference` is the unaccelerated picture of the same
    frame, if the probe requested it; `quality.compare` computes `quality` from the two. changing: the next picture would differ
    even if the input did not (prompts or styles travel, the noise walks).
    """

    frame_id: int
    settings_version: int
    pixels: Picture | None
    verdict: Verdict
    timings: StageTimings = StageTimings()
    quality: Quality | None = None
    superseded: tuple[int, ...] = ()
    reference: Picture | None = None
    changing: bool = False
