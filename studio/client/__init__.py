"""The Python client. `python -m studio.client` streams a file through a running studio."""

from studio.client.address import StudioError, stream_url
from studio.client.client import StudioClient
from studio.client.decoded_answer import DecodedAnswer

__all__ = ["DecodedAnswer", "StudioClient", "StudioError", "stream_url"]
