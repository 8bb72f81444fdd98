"""Judges of pictures that are no training objective: they measure what ships, on held-out photographs and clips."""
