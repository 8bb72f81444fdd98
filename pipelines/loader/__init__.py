"""Checkpoints to the parts an engine is made of. The only place that imports diffusers' and transformers' loaders."""

from pipelines.loader.check import Report, inspect
from pipelines.loader.parts import SPATIAL_FACTOR, ModelParts
from pipelines.loader.safety import PUBLISHED, SafetyChecker

__all__ = ["PUBLISHED", "SPATIAL_FACTOR", "ModelParts", "Report", "SafetyChecker", "inspect"]
