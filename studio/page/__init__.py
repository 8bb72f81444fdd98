"""The studio's page: Gradio Blocks beside the websocket. Frames never pass through here; see assets/client for the moving part."""

from studio.page.site import mount

__all__ = ["mount"]
