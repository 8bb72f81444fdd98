"""Judges of pictures that nobody trained for: they measure what ships, on held-out photographs and clips."""
