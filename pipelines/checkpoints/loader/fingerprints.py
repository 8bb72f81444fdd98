"""Fingerprints of the networks that graphs are made of: a graph on disk serves as long as its own networks are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.checkpoints.loader.files import read_header

FUSED = "each layer's own alpha, summed in float32 by addmm, "
"""The arithmetic of fusing, as a part of the fingerprint: graphs on disk from another arithmetic are not used."""
HASHED_WHOLE = 256 * 2**20  # larger weight files are identified by size, time and header


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Each changes with the weights and the configuration of its network.

    unet: with the LoRAs and the adapter for picture prompts that are applied to it, and the length of its texts. autoencoder:
    also with the scale that the scheduler demands. painter: empty for a model without one. control: of all ControlNets and
    T2I-Adapters with their weights; empty for a model without one.
    """

    unet: str
    autoencoder: str
    painter: str = ""
    control: str = ""


class FileDigests:
    """Digests of weight files, each read once: a model in a single file has all its networks there, and a model whose LoRAs
    change keeps its other files."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, int, int], bytes] = {}

    def fingerprint(self, configuration: str, files: Iterable[Path]) -> str:
        """20 hexadecimal digits. configuration: whatever counts beside these weight files."""
        digest = hashlib.sha256(configuration.encode())
        for path in files:
            digest.update(self._of(path))
        return digest.hexdigest()[:20]

    def _of(self, path: Path) -> bytes:
        stat = path.stat()
        version = path, stat.st_size, stat.st_mtime_ns
        if version not in self._known:
            if stat.st_size <= HASHED_WHOLE:
                content = path.read_bytes()
            else:
                content = f"{sorted(read_header(path, path.name)[0].items())} {version[1:]}".encode()
            self._known[version] = hashlib.sha256(content).digest()
        return self._known[version]
