"""How the painter is made: the network that draws strokes and shapes behind the decoder (pipelines/networks/painter.py)."""
