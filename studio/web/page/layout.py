"""What stands where: the output and its prompt at the left, input, look and speed at the right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.web.page.controls import Controls

MOUNT = "import(new URL('rill/client/studio.js', document.baseURI)).then((studio) => studio.mount(element, props, trigger))"
RESET = "() => { window.rill && window.rill.reset(); }"
DICE = "() => { window.rill && window.rill.settings.put('seed', Math.floor(Math.random() * 4294967296)); }"


@dataclass(frozen=True, slots=True)
class Row:
    """One technique: its switch (or the choice that plays that part), a sentence on it, and the settings that belong to it."""

    group: str
    title: str
    switch: str
    hint: str | None = None
    more: tuple[tuple[str, str], ...] = ()


SPEED = (
    Row("stream_batch", "Stream batch", "stream_batch.enabled"),
    Row(
        "gate",
        "Similarity gate",
        "gate.enabled",
        None,
        (("gate.threshold", "Threshold"), ("gate.max_skip", "Most in a row"), ("gate.tile_threshold", "Local motion")),
    ),
    Row(
        "cache",
        "Feature cache",
        "cache.enabled",
        None,
        (
            ("cache.reuse", "Between"),
            ("cache.policy", "Policy"),
            ("cache.interval", "Interval"),
            ("cache.drift", "Drift"),
            ("cache.branch", "Re-entry"),
            ("cache.cascade", "Cascade"),
        ),
    ),
    Row(
        "guidance",
        "Guidance",
        "guidance_mode",
        "Pushes the picture towards the prompt. The residual modes (self, one-time) do it at the price of none.",
        (("guidance", "Scale"), ("guidance_delta", "Residual"), ("guidance_alike", "Alike"), ("negative", "Not in the picture")),
    ),
    Row(
        "noise",
        "Noise",
        "noise.mode",
        "Fixed noise keeps still parts still; a walk lets them breathe.",
        (("noise.walk_rate", "Walk"), ("noise.motion", "Motion"), ("noise.warm_start", "Warm start")),
    ),
)

MEASURED = ("stream_batch", "gate", "cache", "guidance")
"""Techniques whose effect the page measures by switching them off and on."""

STRENGTH_MAP = Row(
    "strength_map",
    "Strength map",
    "strength_map.mode",
    "Full strength where the picture moves, or everywhere but where you paint.",
    (("strength_map.still", "Where it is still"),),
)
OMEGA_MAP = Row(
    "omega_map",
    "Granularity map",
    "omega_map.mode",
    "Where granularity acts: everywhere, where the picture moves, or where you paint.",
    (("omega_map.still", "Where it is still"),),
)
PROBE = Row(
    "probe",
    "Compare with the unaccelerated picture",
    "probe.enabled",
    None,
    (("probe.every", "Every"), ("probe.share", "Share of time")),
)


def part(name: str, **data: str) -> gr.HTML:
    """A place that the browser client fills; it mounts itself there."""
    attributes = "".join(f' data-{key}="{value}"' for key, value in data.items())
    return gr.HTML(
        html_template=f'<div data-part="{name}" class="rill-part rill-part-{name}"{attributes}></div>',
        js_on_load=MOUNT,
        apply_default_css=False,
        elem_classes=[f"rill-host-{name}"],
    )


def build(fields: Mapping[str, Any], spec: Any, info: Any) -> gr.Blocks:
    """The page for these declared settings; `spec` and `info` may be None while the model is still loading."""
    top = getattr(spec, "max_steps", None) or getattr(info, "max_steps", None)
    controls = Controls(fields, {"steps": top} if top else {})
    with gr.Blocks(title="Rill", fill_width=True, analytics_enabled=False) as demo:
        part("top")
        with gr.Row(elem_id="rill-main"):
            with gr.Column(elem_id="rill-left"):
                stage = part("stage")
                _prompt(controls)
                part("strip")
            with gr.Column(elem_id="rill-side"):
                _input()
                _look(controls)
                _speed(controls)
                _quality(controls)
                _rest(controls)
                _keep()
                reset = gr.Button("Reset all settings", size="sm", elem_id="rill-reset")
                reset.click(fn=None, js=RESET, queue=False, api_visibility="private")
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
        with gr.Row(elem_id="rill-ask"):
            controls.make("prompt", "Prompt", placeholder="What the picture shall become", lines=1, autofocus=False)
            part("ask")
        if "prompt_b" in controls.fields:
            part("mixture")
        part("looks")


def _input() -> None:
    with gr.Column(elem_classes=["rill-panel"], elem_id="rill-input"):
        _title("Input")
        part("source")


def _look(controls: Controls) -> None:
    with gr.Column(elem_classes=["rill-panel"], elem_id="rill-look"):
        _title("Look")
        controls.make("strength", "Strength", info=None)
        with gr.Column(elem_id="rill-style"):
            controls.make("style.amount", "Style amount", info=None)
        controls.make("steps", "Steps", info=None)
        if "seed" in controls.fields:
            with gr.Row(elem_classes=["rill-seed"]):
                controls.make("seed", "Seed")
                dice = gr.Button("Roll", size="sm", elem_id="rill-dice", min_width=56)
                dice.click(fn=None, js=DICE, queue=False, api_visibility="private")
        _row(controls, STRENGTH_MAP)
        if "omega" in controls.fields:
            controls.make("omega", "Granularity", info="Below 1 the picture gets grainier, above 1 plainer.")
        _row(controls, OMEGA_MAP)
        with gr.Column(elem_id="rill-conditions"):
            with gr.Column(elem_id="rill-control"):
                controls.make("control.map", "Hold to the input's shape", info=None)
                controls.make("control.scale", "How strictly", info=None)
            part("picture")
            controls.make("picture.scale", "Picture prompt", info=None)
        with gr.Accordion("Second prompt", open=False, elem_classes=["rill-fold"], elem_id="rill-second"):
            controls.make("prompt_b", "Second prompt", placeholder="Mixed in by the blend")
            controls.make("blend", "Blend", info=None)
            part("travel")
            controls.make("blend_mode", "Mixed", info=None)
            controls.make("travel", "A new prompt fades in over (s)", info=None)


def _speed(controls: Controls) -> None:
    with gr.Column(elem_classes=["rill-panel"], elem_id="rill-speed"):
        _title("Speed")
        part("spec")
        part("hold")
        for row in SPEED:
            _row(controls, row)


def _quality(controls: Controls) -> None:
    if PROBE.switch in controls.fields:
        with gr.Column(elem_classes=["rill-panel"], elem_id="rill-quality"):
            _title("Quality")
            _row(controls, PROBE)
            part("quality")


def _keep() -> None:
    with gr.Column(elem_classes=["rill-panel"], elem_id="rill-keep"):
        _title("Keep and share")
        part("keep")


def _row(controls: Controls, row: Row) -> None:
    """A switch, its present effect, and its sliders, which show only while it is on. Nothing if it is not declared."""
    if row.switch not in controls.fields:
        return
    rule = controls.fields[row.switch].metadata
    kind = rule["kind"]
    options: dict[str, Any] = {"info": row.hint} if row.hint else {}
    with gr.Column(elem_classes=["rill-row", f"rill-row-{kind}"], elem_id=f"rill-row-{row.group.replace('_', '-')}"):
        if row is not PROBE:
            part("effect", of=row.group)
        controls.make(row.switch, row.title, elem_classes=["rill-switch"], **options)
        if row.group in MEASURED:
            part("measured", of=row.group)
        others = [(key, label(key.rpartition(".")[2])) for key in controls.fields if key.startswith(f"{row.group}.")]
        with gr.Column(elem_classes=["rill-body"]):
            for key, name in (*row.more, *others):
                controls.make(key, name)


def _rest(controls: Controls) -> None:
    """Settings that were declared after this layout was drawn: nothing that can be set is out of reach."""
    keys = controls.rest()
    if not keys:
        return
    with gr.Accordion("More", open=False, elem_classes=["rill-panel", "rill-fold"], elem_id="rill-more"):
        for key in keys:
            controls.make(key, label(key))


def label(key: str) -> str:
    """A readable name for a setting that this layout does not know."""
    return key.replace(".", " ").replace("_", " ").capitalize()


def _title(text: str) -> None:
    gr.HTML(f"<h2>{text}</h2>", js_on_load=None, elem_classes=["rill-title"], apply_default_css=False)
