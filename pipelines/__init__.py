"""Tensors in, tensors out: the streaming engine and its techniques. Knows no web, no threads, no environment variables.

What the studio may use is exported here and nowhere else.
"""

from pipelines import gate, media, quality
from pipelines.engine import StreamPipeline, load
from pipelines.graphs import GraphKey
from pipelines.loader import PUBLISHED as PUBLISHED_SAFETY_CHECKER
from pipelines.loader import ModelParts, SafetyChecker
from pipelines.loader import Report as ModelReport
from pipelines.loader import inspect as inspect_model
from pipelines.memory import release as release_memory
from pipelines.models import ModelInfo
from pipelines.naming import describe
from pipelines.registry import EXTRAS, REGISTRY
from pipelines.settings import FIELDS, Settings, parse_assignment
from pipelines.state import StreamState
from pipelines.turn import Entry
from pipelines.types import (
    STAGES,
    Frame,
    GraphLimits,
    HostPicture,
    LoraUse,
    Mask,
    MemoryShortError,
    ModelError,
    Output,
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
from pipelines.vocabulary import Vocabulary, Word

__all__ = [
    "EXTRAS",
    "FIELDS",
    "PUBLISHED_SAFETY_CHECKER",
    "REGISTRY",
    "STAGES",
    "Entry",
    "Frame",
    "GraphKey",
    "GraphLimits",
    "HostPicture",
    "LoraUse",
    "Mask",
    "MemoryShortError",
    "ModelError",
    "ModelInfo",
    "ModelParts",
    "ModelReport",
    "Output",
    "Picture",
    "Pixels",
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
    "Verdict",
    "Vocabulary",
    "Word",
    "describe",
    "gate",
    "inspect_model",
    "load",
    "media",
    "parse_assignment",
    "quality",
    "release_memory",
]
