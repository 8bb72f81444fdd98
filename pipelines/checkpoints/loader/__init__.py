"""Loads checkpoints into the parts of an engine. Only this folder imports the loaders of diffusers and transformers."""

from pipelines.checkpoints.loader.check import Report, inspect
from pipelines.checkpoints.loader.parts import SPATIAL_FACTOR, ModelParts
from pipelines.checkpoints.loader.safety import PUBLISHED, SafetyChecker

__all__ = ["PUBLISHED", "SPATIAL_FACTOR", "ModelParts", "Report", "SafetyChecker", "inspect"]
