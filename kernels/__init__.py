"""Fused tensor operations, each beside its plain reference. Knows torch only: no models, no streams, no backends."""
