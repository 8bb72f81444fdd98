"""The Python client. `python -m studio.client` streams a file through a running studio."""

from studio.client.client import DecodedAnswer, StudioClient, StudioError, stream_url

__all__ = ["DecodedAnswer", "StudioClient", "StudioError", "stream_url"]
