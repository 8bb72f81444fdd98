"""The static graphs of one pipeline: which exist, which batch sizes they take, what runs on them.

Building is slow (seconds) and may happen in another thread while the ready ones keep running.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import cache, cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kernels import group_norm_silu, groupnorm, pixels, upsample
from pipelines.checkpoints.loader.parts import ModelParts
from pipelines.checkpoints.loader.unet_config import SPATIAL_FACTOR
from pipelines.graphs import memory
from pipelines.graphs.backends.base import Backend, Graph, Samples
from pipelines.graphs.backends.building import build_lock
from pipelines.graphs.backends.eager import EagerBackend
from pipelines.graphs.calibration import CALIBRATED, Calibration
from pipelines.graphs.graph_budget import ReadyGraphs
from pipelines.graphs.keys import ADAPTED, ALWAYS_READY, GraphKey
from pipelines.graphs.patches.runner import PARTS as HALVED
from pipelines.graphs.patches.runner import PatchGraph, PatchRunner, Slot
from pipelines.networks.controlnet import steering
from pipelines.networks.hires import HalvedPass, Shifted
from pipelines.networks.modulation import ModulationPass, modulation_size
from pipelines.networks.pixels import DecodePixels, EncodeMasked, EncodePixels, PaintPixels
from pipelines.networks.window_paint import PaintKeeping, PaintWindow
from pipelines.techniques import partial as partial_frames
from pipelines.values.settings import MAPS
from pipelines.values.types import StreamSpec


def padded(value: Tensor, size: int) -> Tensor:
    """The rows of `value` and its last one again, up to `size` rows."""
    missing = size - value.shape[0]
    return value if not missing else torch.cat([value, value[-1:].expand(missing, *value.shape[1:])])


def _of_pictures(part: str) -> bool:
    """Whether it is a graph of the autoencoder, with or without the painter."""
    return part.startswith(("encode", "decode", "paint")) and part not in ("encoder", "decoder")


@cache
def code_version() -> str:
    """Changes with whatever a traced graph depends on besides the weights: a graph kept on disk must not outlive its code."""
    digest = hashlib.sha256(version("diffusers").encode())
    here = Path(__file__).parent
    own = (
        "unet.py",
        "modulation.py",
        "position_bias.py",
        "latent_gate.py",
        "lora_branches.py",
        "controlnet.py",
        "picture_prompt.py",
        "pixels.py",
        "cosine_autoencoder.py",
        "painter.py",
        "trunk.py",
        "window.py",
        "svdquant.py",
        "hires.py",
    )
    operations = (Path(module.__file__ or "") for module in (groupnorm, group_norm_silu, pixels, upsample))
    for path in (
        *(here.parent / "networks" / name for name in own),
        *(here / "backends" / name for name in ("openvino.py", "four_bits.py")),
        *operations,
    ):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class Later(Sequence[Any]):
    """A sequence that is made when it is first looked at: what a graph takes is not asked of its network where the graph lies
    on disk."""

    def __init__(self, make: Callable[[], Sequence[Any]]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Sequence[Any]:
        return self._make()

    def __getitem__(self, index: Any) -> Any:
        return self._made[index]

    def __len__(self) -> int:
        return len(self._made)


class Graphs:
    """Builds and runs graphs. `run` takes any number of rows; `build` makes one bucket ready."""

    def __init__(self, parts: ModelParts, spec: StreamSpec, backend: Backend, budget: int | None = None) -> None:
        """budget: bytes of all graphs beside ALWAYS_READY ones; None is no limit."""
        self.parts = parts
        self.spec = spec
        self.backend = backend
        self.latent_shape = (parts.latent_channels, spec.height // SPATIAL_FACTOR, spec.width // SPATIAL_FACTOR)
        hires = parts.hires
        self.shifts = hires is not None and hires.windows  # a row's modulation ends in the shift of its windows
        self.halves = hires is not None and hires.halves  # the first levels may take a pass of their own
        self.stitched = parts.small is not None  # or a second UNet
        self._calibration = Calibration(parts, spec)
        self.patches = PatchRunner(spec) if spec.patch_devices else None
        self._weights: dict[tuple[str, int | None], int] = {}  # numbers that a graph of a kind holds, once one has been built
        self.resident: ReadyGraphs[GraphKey] = ReadyGraphs(lambda key: key in ALWAYS_READY, budget)

    def ready(self, key: GraphKey) -> bool:
        return key in self.resident

    @property
    def bytes(self) -> int:
        """Estimated memory of the graphs that the budget is for."""
        return self.resident.bytes

    def need(self, keys: Iterable[GraphKey]) -> None:
        """These are needed from now on, so they stay, and no others are. Any thread."""
        self.resident.need(keys)

    def build(self, key: GraphKey, ahead: bool = False, must: bool = False) -> bool:
        """Make a graph ready, in any thread; returns at once if it is. False if there is no memory for it.

        ahead: no session needs it yet, so no other is evicted for it. must: it is built whatever memory it takes.
        """
        if key in self.resident:
            return True
        with build_lock():  # the example reads weights, which two threads would read twice
            if key in self.resident:
                return True
            size = self._bytes(key)
            if (not must or self.resident.fits(key, size, ahead)) and not self.resident.room(key, size, ahead):
                return False
            lanes = self._lanes(key)
            lane = replace(key, rows=key.rows // lanes)
            make, example = partial(self.module, lane), Later(partial(self._example, lane))
            if self.patches is not None and key.part in HALVED:
                graph: Graph = self._over_two_devices(self.patches, key)
            else:
                graph = self.backend.build(self._name(lane), make, example, self._samples(lane), lanes)
            self._weights[key.part, key.branch] = getattr(graph, "weights", 0)
            graph = self.parts.adapted.with_gains(graph, key.rows) if key.part in ADAPTED else graph
            self.resident.add(key, graph, self._bytes(key))
            return True

    def evict(self, key: GraphKey) -> None:
        """Give its memory back, where it is ready; its file stays."""
        with build_lock():
            self.resident.remove(key)

    def portable(self, key: GraphKey, ahead: bool = False) -> bool:
        """Whether another process could build a graph for this one, by leaving it on disk; False if `build` would not build it.
        ahead: as there."""
        if not self.resident.fits(key, self._bytes(key), ahead):
            return False
        lane = replace(key, rows=key.rows // self._lanes(key))
        return self.backend.portable(self._name(lane), self._samples(lane) is not None)

    def _over_two_devices(self, patches: PatchRunner, key: GraphKey) -> Graph:
        if not isinstance(self.backend, EagerBackend):
            raise TypeError("only the eager backend computes a picture on two devices")
        return patches.graph(asdict(key), self.backend.module(partial(self.module, key)), self.backend.enter)

    def _lanes(self, key: GraphKey) -> int:
        return self.backend.lanes(key.rows, math.prod(self.latent_shape[1:]), self._numbers)

    @cached_property
    def _numbers(self) -> int:
        """How many numbers the networks' files hold."""
        return memory.stored_in(self.parts.network_files).count

    def _name(self, key: GraphKey) -> str:
        size = f"{self.spec.width}x{self.spec.height}"
        networks = "/".join(self._networks(key))
        name = f"{code_version()}/{networks}/{key.part}/{key.rows}/{key.branch}/{size}/{self.spec.dtype}"
        name += f"/{key.chunks}" if key.chunks > 1 else ""
        name += f"/hires {self.spec.hires}" if self.parts.hires is not None else ""
        # other pictures make another graph
        return name if self._samples(key) is None else f"{name}/{self._calibration.version}"

    def _networks(self, key: GraphKey) -> tuple[str, ...]:
        """Fingerprints of the networks that a graph depends on; an int8 graph is calibrated with what both compute."""
        prints = self.parts.fingerprints
        if self._samples(key) is not None:
            return prints.unet, prints.autoencoder
        if key.part.startswith("paint"):
            return prints.autoencoder, prints.painter
        if key.part.startswith("control"):
            return prints.unet, prints.control
        if key.part.startswith("small") and self.parts.small is not None:
            return (self.parts.small.fingerprints.unet,)
        return (prints.autoencoder if _of_pictures(key.part) else prints.unet,)

    def _bytes(self, key: GraphKey) -> int:
        """What a graph takes; before there has been one of its kind, with the weights of the largest."""
        weights = self._weights.get((key.part, key.branch), max(self._weights.values(), default=0))
        parts, (height, width) = self.parts, self._size(key)
        spec = replace(self.spec, height=height, width=width)
        return memory.graph_bytes(weights, parts.unet_config, parts.vae_config, spec, key.rows, _of_pictures(key.part))

    def _size(self, key: GraphKey) -> tuple[int, int]:
        """Height and width in pixels of what a graph works on."""
        whole = self.spec.height, self.spec.width
        return (partial_frames.side(whole[0]), partial_frames.side(whole[1])) if key.part.endswith("window") else whole

    def _latent(self, key: GraphKey) -> tuple[int, int, int]:
        """The latent's shape of what a graph works on."""
        height, width = self._size(key)
        return self.latent_shape[0], height // SPATIAL_FACTOR, width // SPATIAL_FACTOR

    def run(
        self,
        part: str,
        inputs: tuple[Tensor, ...],
        branch: int | None = None,
        chunks: int = 1,
        slots: Sequence[Slot] = (),
    ) -> tuple[Tensor, ...]:
        """Rows along dimension 0 of every input, laid over ready buckets; outputs in the same order. chunks: as in the key.
        slots: which stream, level and place each row is of, for passes over two devices, which keep activations of each."""
        count, layout = inputs[0].shape[0], self.backend.layout
        ready = tuple(size for size in layout.buckets if self.resident.has(GraphKey(part, size, branch, chunks)))
        if not ready or 1 not in ready:
            self.build(GraphKey(part, 1, branch, chunks), must=True)
            ready = (1, *ready)
        parts: list[tuple[Tensor, ...]] = []
        start = 0
        for size in layout.lay(count, ready):
            end = min(start + size, count)
            graph = self.resident.take(GraphKey(part, size, branch, chunks))
            if slots and isinstance(graph, PatchGraph):
                graph = partial(graph.of_slots, [slots[min(at, end - 1)] for at in range(start, start + size)])
            outputs = graph(*(padded(value[start:end], size) for value in inputs))
            parts.append(outputs if end - start == size else tuple(output[: end - start] for output in outputs))
            start = end
        return parts[0] if len(parts) == 1 else tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def clear(self) -> None:
        self.resident.clear()
        if self.patches is not None:
            self.patches.close()

    def _samples(self, key: GraphKey) -> Samples | None:
        """What a graph in int8 is calibrated with; None for one that stays in floats."""
        calibrated = self.spec.dtype == "int8" and self.spec.backend == "openvino"
        special = self.parts.picture_tokens or self.parts.beside or self.parts.hires or key.chunks > 1
        if not calibrated or key.part not in CALIBRATED or special:
            return None
        return lambda: self._calibration(key.part, key.rows, key.branch)

    def module(self, key: GraphKey) -> nn.Module:
        """What a graph is made of. Reads weights."""
        module = self._pass(key)
        if self.parts.windows is not None and key.part in ADAPTED and key.part != "modulate":
            module = Shifted(module, self.parts.windows, int(key.part != "decoder"))
        return self.parts.adapted.taking_gains(module) if key.part in ADAPTED else module

    def _pass(self, key: GraphKey) -> nn.Module:
        from pipelines.networks.unet import DecoderPass, FullPass, ShallowPass
        from pipelines.networks.window import KeepingPass, WindowPass

        parts, branch = self.parts, key.branch
        inside = parts.inside if key.part.startswith("controlled-") else None
        match key.part.removeprefix("controlled-"):
            case "encode" | "encode-window":
                return EncodePixels(parts.vae, parts.upcasts_autoencoder)
            case "encode-masked":
                return EncodeMasked(parts.vae, parts.upcasts_autoencoder)
            case "decode" | "decode-window":
                return DecodePixels(parts.vae, parts.upcasts_autoencoder)
            case "paint":
                return PaintPixels(parts.vae, parts.painter, parts.upcasts_autoencoder)
            case "paint-keeping":
                return PaintKeeping(parts.vae, parts.painter, parts.upcasts_autoencoder)
            case "paint-window":
                return PaintWindow(parts.vae, parts.painter, parts.upcasts_autoencoder)
            case "keeping":
                return KeepingPass(parts.unet)
            case "window":
                return WindowPass(parts.unet, self.latent_shape[1:], self._latent(key)[1:])
            case "modulate":
                return ModulationPass(parts.unet)
            case "control":
                return steering(parts.controls, [control.weight for control in parts.control_files], branch, parts.inside)
            case "full":
                return FullPass(parts.unet, branch, inside=inside)
            case "shallow" if branch is not None:
                return ShallowPass(parts.unet, branch, inside=inside)
            case "relay" if branch:
                return ShallowPass(parts.unet, branch, branch - 1, inside)
            case "encoder":
                return FullPass(parts.unet, keep_encoder=True, inside=inside)
            case "decoder":
                return DecoderPass(parts.unet)
            case "small" if parts.small is not None:
                return FullPass(parts.small.unet)
            case "small-modulate" if parts.small is not None:
                return ModulationPass(parts.small.unet)
            case "first" if parts.hires is not None:
                return HalvedPass(parts.unet, parts.hires.start)
        raise ValueError(f"no graph of kind {key}")

    def _example(self, key: GraphKey) -> tuple[Tensor, ...]:
        gains = (self.parts.adapted.gains(key.rows),) if key.part in ADAPTED and self.parts.adapted.branches else ()
        return *self._own_example(key), *gains

    def _own_example(self, key: GraphKey) -> tuple[Tensor, ...]:
        rows, spec = key.rows, self.spec
        generator = torch.Generator().manual_seed(0)
        if key.part in ("encode", "encode-window"):
            return (torch.zeros(rows, *self._size(key), 3, dtype=torch.uint8),)
        if key.part == "encode-masked":
            sides = rows, spec.height, spec.width
            return torch.zeros(*sides, 3, dtype=torch.uint8), torch.ones(sides, dtype=torch.uint8)
        latents = torch.randn(rows, *self._latent(key), generator=generator)
        if key.part in ("decode", "decode-window"):
            return (latents,)
        if key.part.startswith("paint"):
            return latents, self.parts.style_table[:1].expand(rows, -1).contiguous(), torch.ones(rows), torch.zeros(rows)
        length, width = self.parts.embedding_shape
        length *= key.chunks
        text = torch.randn(rows, length, width, generator=generator)
        t = torch.full((rows,), 500, dtype=torch.int64)
        added = tuple(torch.rand(rows, size, generator=generator) for size in self.parts.added_sizes)
        if key.part in ("modulate", "small-modulate"):
            return t, text, *added
        if key.part == "control":
            count = len(self.parts.control_files)
            hint = torch.rand(rows, 3 * count, spec.height, spec.width, generator=generator)
            if self.parts.inside is not None:
                return hint, torch.ones(rows)
            kinds = (torch.rand(rows, len(MAPS) * count, generator=generator),) if self.parts.takes_maps else ()
            pooled = added[:2] if self.parts.pooled_size is not None else ()
            return latents, t, text, hint, torch.ones(rows), *kinds, *pooled
        network = self.parts.small if key.part == "small" and self.parts.small else self.parts
        modulation = torch.randn(rows, modulation_size(network.unet_config, network.gated), generator=generator)
        if self.shifts:
            modulation = torch.cat([modulation, torch.zeros(rows, 1)], dim=1)
        behind = self.parts.picture_tokens + 1 if self.parts.picture_tokens else 0
        embedding = torch.randn(rows, length + behind, width, generator=generator)
        taken = (torch.randn(rows, *shape, generator=generator) for shape in self._shapes(key))
        if key.part == "decoder" and not self.parts.gated:
            return modulation, embedding, *taken
        x = torch.randn(rows, int(self.parts.unet_config["in_channels"]), *self._latent(key)[1:], generator=generator)
        if key.part == "window":
            from pipelines.networks.window import KeepingPass

            origin = torch.zeros(rows, 2, dtype=torch.int64)
            return x, modulation, embedding, torch.ones(rows, KeepingPass(self.parts.unet).size), origin
        return x, modulation, embedding, *taken

    def _shapes(self, key: GraphKey) -> list[tuple[int, ...]]:
        """Shapes [C, h, w] of what a pass takes of an earlier one, then of a ControlNet."""
        if key.part in ("full", "encoder", "keeping", "window", "first", "small"):
            return []
        from pipelines.networks.unet import deep_shape, skip_shapes

        unet, (height, width) = self.parts.unet, self.latent_shape[1:]
        skips = skip_shapes(unet, height, width)
        match key.part:
            case "decoder":
                return [skips[-1], *skips]
            case "controlled-full" | "controlled-encoder":
                places = range(len(skips) + 1) if self.parts.inside is None else self.parts.inside
                return [skips[min(place, len(skips) - 1)] for place in places]
            case "shallow" | "relay" | "controlled-shallow" | "controlled-relay" if key.branch is not None:
                deep = deep_shape(unet, key.branch, height, width)
                places = range(key.branch + 1) if self.parts.inside is None else self.parts.inside
                taken = [skips[place] for place in places if place <= key.branch]
                return [deep, *(taken if key.part.startswith("controlled-") else ())]
        raise ValueError(f"no graph of kind {key}")
