"""The streaming engine and its techniques: tensors in, tensors out. No web, no threads, no environment variables.

The studio uses only these exports. Each is imported on first use (PEP 562), so a program that needs settings only does not wait
for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines import media
    from pipelines.checkpoints.loader.check import Report as ModelReport
    from pipelines.checkpoints.loader.check import inspect as inspect_model
    from pipelines.checkpoints.loader.model_files import ModelFiles
    from pipelines.checkpoints.loader.parts import ModelParts
    from pipelines.checkpoints.loader.safety import PUBLISHED as PUBLISHED_SAFETY_CHECKER
    from pipelines.checkpoints.loader.safety import SafetyChecker
    from pipelines.checkpoints.naming import describe
    from pipelines.checkpoints.registry import EXTRAS, REGISTRY
    from pipelines.engine.engine import StreamPipeline, load
    from pipelines.engine.state import StreamState
    from pipelines.engine.style_fitting import fitted
    from pipelines.engine.turn import Entry
    from pipelines.graphs.backends.selection import attention_kinds, backends, quantised_dtypes
    from pipelines.graphs.keys import GraphKey
    from pipelines.graphs.memory import free_bytes as free_memory
    from pipelines.graphs.memory import release as release_memory
    from pipelines.techniques import gate, quality, refinement
    from pipelines.techniques.prompt_syntax import LoraTag, lora_tags
    from pipelines.values import presets
    from pipelines.values.models import ModelInfo
    from pipelines.values.picture_style import MAX_BYTES as MAX_STYLE_BYTES
    from pipelines.values.picture_style import PictureStyle, is_style, read_style, write_style
    from pipelines.values.presets import Preset
    from pipelines.values.settings import FIELDS, Settings, parse_assignment
    from pipelines.values.style_names import StyleNames
    from pipelines.values.types import (
        NEUTRAL,
        STAGES,
        Frame,
        GraphLimits,
        HostPicture,
        LoraUse,
        Mask,
        MemoryShortError,
        ModelError,
        Output,
        PatchWorkerError,
        Picture,
        Pixels,
        Quality,
        RillError,
        SettingsError,
        SpecError,
        StageTimings,
        StreamSpec,
        Verdict,
    )
    from pipelines.values.vocabulary import Vocabulary, Word

__all__ = [
    "EXTRAS",
    "FIELDS",
    "MAX_STYLE_BYTES",
    "NEUTRAL",
    "PUBLISHED_SAFETY_CHECKER",
    "REGISTRY",
    "STAGES",
    "Entry",
    "Frame",
    "GraphKey",
    "GraphLimits",
    "HostPicture",
    "LoraTag",
    "LoraUse",
    "Mask",
    "MemoryShortError",
    "ModelError",
    "ModelFiles",
    "ModelInfo",
    "ModelParts",
    "ModelReport",
    "Output",
    "PatchWorkerError",
    "Picture",
    "PictureStyle",
    "Pixels",
    "Preset",
    "Quality",
    "RillError",
    "SafetyChecker",
    "Settings",
    "SettingsError",
    "SpecError",
    "StageTimings",
    "StreamPipeline",
    "StreamSpec",
    "StreamState",
    "StyleNames",
    "Verdict",
    "Vocabulary",
    "Word",
    "attention_kinds",
    "backends",
    "describe",
    "fitted",
    "free_memory",
    "gate",
    "inspect_model",
    "is_style",
    "load",
    "lora_tags",
    "media",
    "parse_assignment",
    "presets",
    "quality",
    "quantised_dtypes",
    "read_style",
    "refinement",
    "release_memory",
    "write_style",
]

_MODULES = {
    "media": "pipelines.media",
    "gate": "pipelines.techniques.gate",
    "quality": "pipelines.techniques.quality",
    "refinement": "pipelines.techniques.refinement",
    "presets": "pipelines.values.presets",
}
_HOMES = {
    "pipelines.engine.engine": {"StreamPipeline": "StreamPipeline", "load": "load"},
    "pipelines.graphs.backends.selection": {
        "attention_kinds": "attention_kinds",
        "backends": "backends",
        "quantised_dtypes": "quantised_dtypes",
    },
    "pipelines.graphs.graphs": {"GraphKey": "GraphKey"},
    "pipelines.checkpoints.loader.check": {"ModelReport": "Report", "inspect_model": "inspect"},
    "pipelines.checkpoints.loader.model_files": {"ModelFiles": "ModelFiles"},
    "pipelines.checkpoints.loader.parts": {"ModelParts": "ModelParts"},
    "pipelines.checkpoints.loader.safety": {"PUBLISHED_SAFETY_CHECKER": "PUBLISHED", "SafetyChecker": "SafetyChecker"},
    "pipelines.graphs.memory": {"free_memory": "free_bytes", "release_memory": "release"},
    "pipelines.engine.style_fitting": {"fitted": "fitted"},
    "pipelines.techniques.prompt_syntax": {"LoraTag": "LoraTag", "lora_tags": "lora_tags"},
    "pipelines.values.models": {"ModelInfo": "ModelInfo"},
    "pipelines.checkpoints.naming": {"describe": "describe"},
    "pipelines.checkpoints.registry": {"EXTRAS": "EXTRAS", "REGISTRY": "REGISTRY"},
    "pipelines.values.presets": {"Preset": "Preset"},
    "pipelines.values.settings": {"FIELDS": "FIELDS", "Settings": "Settings", "parse_assignment": "parse_assignment"},
    "pipelines.values.picture_style": {
        "MAX_STYLE_BYTES": "MAX_BYTES",
        "PictureStyle": "PictureStyle",
        "is_style": "is_style",
        "read_style": "read_style",
        "write_style": "write_style",
    },
    "pipelines.engine.state": {"StreamState": "StreamState"},
    "pipelines.values.style_names": {"StyleNames": "StyleNames"},
    "pipelines.engine.turn": {"Entry": "Entry"},
    "pipelines.values.types": {
        "NEUTRAL": "NEUTRAL",
        "STAGES": "STAGES",
        "Frame": "Frame",
        "GraphLimits": "GraphLimits",
        "HostPicture": "HostPicture",
        "LoraUse": "LoraUse",
        "Mask": "Mask",
        "MemoryShortError": "MemoryShortError",
        "ModelError": "ModelError",
        "Output": "Output",
        "PatchWorkerError": "PatchWorkerError",
        "Picture": "Picture",
        "Pixels": "Pixels",
        "Quality": "Quality",
        "RillError": "RillError",
        "SettingsError": "SettingsError",
        "SpecError": "SpecError",
        "StageTimings": "StageTimings",
        "StreamSpec": "StreamSpec",
        "Verdict": "Verdict",
    },
    "pipelines.values.vocabulary": {"Vocabulary": "Vocabulary", "Word": "Word"},
}
"""module → exported name → its name there"""

_WHERE = {name: (module, there) for module, names in _HOMES.items() for name, there in names.items()}


def __getattr__(name: str) -> Any:
    """The export `name`. Raises AttributeError for others."""
    if name in _MODULES:
        found = import_module(_MODULES[name])
    elif name in _WHERE:
        module, there = _WHERE[name]
        found = getattr(import_module(module), there)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found
