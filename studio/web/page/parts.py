"""Places that the browser client fills."""

from __future__ import annotations

import gradio as gr

MOUNT = "import(new URL('rill/client/studio.js', document.baseURI)).then((studio) => studio.mount(element, props, trigger))"


def part(name: str, **data: str) -> gr.HTML:
    """A place that the browser client fills; it mounts itself there."""
    attributes = "".join(f' data-{key}="{value}"' for key, value in data.items())
    return gr.HTML(
        html_template=f'<div data-part="{name}" class="rill-part rill-part-{name}"{attributes}></div>',
        js_on_load=MOUNT,
        apply_default_css=False,
        elem_classes=[f"rill-host-{name}"],
    )


def title(text: str) -> None:
    """A heading in the page."""
    gr.HTML(f"<h2>{text}</h2>", js_on_load=None, elem_classes=["rill-title"], apply_default_css=False)
