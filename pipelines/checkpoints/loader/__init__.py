"""Checkpoints to the parts an engine is made of. The only place that imports diffusers' and transformers' loaders."""

from pipelines.checkpoints.loader.check import Report, inspect
from pipelines.checkpoints.loader.parts import SPATIAL_FACTOR, ModelParts
from pipelines.checkpoints.loader.safety import PUBLISHED, SafetyChecker

__all__ = ["PUBLISHED", "SPATIAL_FACTOR", "ModelParts", "Report", "SafetyChecker", "inspect"]
