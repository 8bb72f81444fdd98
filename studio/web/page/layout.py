"""What stands where in the first depth: input, picture, prompt, looks, strength, crossfader, output. engine.py has the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr

from studio.web.page.controls import Controls
from studio.web.page.engine import engine
from studio.web.page.parts import part, title

SEED = "() => { window.rill && window.rill.settings.put('seed', Math.floor(Math.random() * 4294967296)); }"


def build(fields: Mapping[str, Any], spec: Any, info: Any) -> gr.Blocks:
    """The page for these declared settings; `spec` and `info` may be None while the model is still loading.

    The order here is the order of the keyboard; studio.css places each part for each size of the window.
    """
    top = getattr(spec, "max_steps", None) or getattr(info, "max_steps", None)
    controls = Controls(fields, {"steps": top} if top else {})
    with gr.Blocks(title="Rill", fill_width=True, analytics_enabled=False) as demo:
        part("top")
        with gr.Row(elem_id="rill-main"):
            with gr.Column(elem_id="rill-input"):
                part("source")
            with gr.Column(elem_id="rill-left"):  # full screen shows this
                stage = part("stage")
                _prompt(controls)
            with gr.Column(elem_id="rill-mix"):
                _mix(controls)
            if "prompt_b" in fields:
                with gr.Column(elem_id="rill-second"):
                    controls.make("prompt_b", "Prompt B", placeholder="Prompt B: a look to fade to", lines=1)
                    controls.make("blend", "Crossfade A to B", info=None)
                    part("travel")
            with gr.Column(elem_id="rill-keep"):
                title("Save & share")
                part("keep")
            with gr.Column(elem_id="rill-looks"):
                part("picture")
                controls.make("picture.blend", "First picture to second", info=None, elem_classes=["rill-absent"])
                controls.make("picture.scale", "Weight of the picture", info=None, elem_classes=["rill-absent"])
                part("looks")
            part("drawer")
            with gr.Column(elem_id="rill-engine"):
                engine(controls)
        part("controls", keys=" ".join(controls.made))
        stage.change(
            fn=None,
            outputs=list(controls.made.values()),
            js=f"() => window.rill.values({json.dumps(list(controls.made))})",
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
    return demo


def _prompt(controls: Controls) -> None:
    with gr.Column(elem_id="rill-prompts"):
        controls.make("prompt", "Prompt", placeholder="Describe a look, e.g. neon outlines", lines=1, autofocus=False)
        part("ask")
        part("understood")
        if "prompt_b" in controls.fields:
            part("mixture")


def _mix(controls: Controls) -> None:
    controls.make("strength", "Strength", info=None)
    with gr.Column(elem_id="rill-style", elem_classes=["rill-absent"]):  # until the model has it
        controls.make("style.amount", "Style amount", info=None)
    if "seed" in controls.fields:
        with gr.Row(elem_classes=["rill-seed"]):
            controls.make("seed", "Variation")
            seed = gr.Button("New seed", size="sm", elem_id="rill-dice", min_width=56)
            seed.click(fn=None, js=SEED, queue=False, api_visibility="private")
