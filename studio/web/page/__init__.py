"""The studio's page: Gradio Blocks beside the websocket. Frames never pass through here: assets/client moves them."""

from studio.web.page.site import mount

__all__ = ["mount"]
