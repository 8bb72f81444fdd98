"""Loads checkpoints into the parts of an engine. Only this folder imports the loaders of diffusers and transformers."""
