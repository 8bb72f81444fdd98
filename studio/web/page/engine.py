"""The second depth, one drawer: model, size, accelerations, guidance, noise, maps, comparison and charts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.web.page.controls import Controls
from studio.web.page.parts import part, title

RESET = "() => { window.rill && window.rill.reset(); }"
PLACES = [("everywhere", "off"), ("moving parts", "motion"), ("painted area", "mask")]


@dataclass(frozen=True, slots=True)
class Row:
    """One technique: its switch (or the choice that plays that part), a sentence on it, and the settings that belong to it."""

    group: str
    title: str
    switch: str
    hint: str | None = None
    more: tuple[tuple[str, str], ...] = ()
    choices: tuple[tuple[str, str], ...] = ()


SPEED = (
    Row("stream_batch", "Stream batch", "stream_batch.enabled"),
    Row(
        "gate",
        "Skip still frames",
        "gate.enabled",
        None,
        (("gate.threshold", "Similarity"), ("gate.max_skip", "Max skipped"), ("gate.tile_threshold", "Local motion")),
    ),
    Row(
        "refine",
        "More steps at rest",
        "refine.enabled",
        None,
        (("refine.steps", "Steps at rest"), ("refine.share", "Share of time at rest")),
    ),
    Row(
        "cache",
        "Feature cache",
        "cache.enabled",
        None,
        (
            ("cache.reuse", "Reuse from"),
            ("cache.policy", "Full pass"),
            ("cache.interval", "Interval"),
            ("cache.drift", "Drift"),
            ("cache.branch", "Depth"),
            ("cache.cascade", "Progressive"),
        ),
    ),
    Row(
        "partial",
        "Only what moves",
        "partial.enabled",
        None,
        (("partial.threshold", "Noise"), ("partial.refresh", "Whole frame every")),
    ),
    Row(
        "guidance",
        "Guidance",
        "guidance_mode",
        "Pushes the picture towards the prompt. self and one-time cost no second pass.",
        (
            ("guidance", "Scale"),
            ("guidance_delta", "Residual"),
            ("guidance_alike", "Similarity to stop at"),
            ("guidance_blur", "Blur of the residual"),
            ("guidance_schedule", "Over the noise levels"),
            ("interval_low", "Interval from"),
            ("interval_high", "Interval to"),
            ("negative", "Negative prompt"),
        ),
    ),
    Row(
        "noise",
        "Noise",
        "noise.mode",
        "Fixed noise keeps still parts still; a walk lets them drift.",
        (
            ("noise.walk_rate", "Walk rate"),
            ("noise.motion", "Less strength in fast motion"),
            ("noise.warm_start", "Warm start from the last picture"),
        ),
    ),
    Row(
        "consistency",
        "Less flicker",
        "consistency.enabled",
        "Mixes the last picture in, moved along with the input. New ground and cuts take none of it.",
        (("consistency.amount", "Share of the last picture"),),
    ),
    Row(
        "cads",
        "Vary pictures from a prompt alone",
        "cads.enabled",
        "Noise on the prompt, so that each seed draws another picture.",
        (
            ("cads.scale", "Noise"),
            ("cads.low", "Full prompt up to noise level"),
            ("cads.high", "No prompt from noise level"),
            ("cads.rescale", "Keep the prompt's spread"),
        ),
    ),
)

MEASURED = ("stream_batch", "gate", "cache", "partial", "guidance", "consistency")
"""Techniques whose effect the page measures by switching them off and on."""

STRENGTH_MAP = Row(
    "strength_map",
    "Affect",
    "strength_map.mode",
    "Where the look is applied.",
    (("strength_map.still", "Strength where it is still"),),
    tuple(PLACES),
)
OMEGA_MAP = Row(
    "omega_map",
    "Detail affects",
    "omega_map.mode",
    "Where the slider Detail acts.",
    (("omega_map.still", "Effect where it is still"),),
    tuple(PLACES),
)
PROBE = Row(
    "probe",
    "Compare with full quality",
    "probe.enabled",
    None,
    (("probe.every", "Every (frames)"), ("probe.share", "Share of time")),
)


def engine(controls: Controls) -> None:
    """Everything that can be set and is not in the first depth, in sections."""
    with _section("details", "Details"):
        part("strip")
    with _section("spec", "Model and size"):
        part("spec")
        controls.make("hires.share", "Large shapes first: share of the steps", info=None, elem_classes=["rill-absent"])
        controls.make("stitch.fraction", "Smaller network: share of the steps", info=None, elem_classes=["rill-absent"])
        part("fit")
    with _section("speed", "Speed"):
        part("hold")
        part("preset")
        controls.make("steps", "Steps", info="More steps, more detail, fewer fps.")
        controls.make("solver", "Solver", info=None)
        for row in SPEED:
            _row(controls, row)
    with _section("where", "Detail and area"):
        if "omega" in controls.fields:
            controls.make("omega", "Detail: fine grain to smooth", info=None)
        controls.make("omega_schedule", "Detail over the noise levels", info=None)
        _row(controls, OMEGA_MAP)
        _row(controls, STRENGTH_MAP)
    with _section("conditions", "Shape", "rill-absent"):
        controls.make("control.map", "Follow the input's shape", info=None)
        controls.make("control.scale", "How strictly", info=None)
    if "blend_mode" in controls.fields or "travel" in controls.fields:
        with _section("fades", "Crossfade"):
            controls.make("blend_mode", "Blend curve", info=None)
            controls.make("travel", "Fade new prompts in over (s)", info=None)
    if PROBE.switch in controls.fields:
        with _section("quality", "Quality"):
            _row(controls, PROBE)
            part("quality")
    _rest(controls)
    reset = gr.Button("Reset all settings", size="sm", elem_id="rill-reset")
    reset.click(fn=None, js=RESET, queue=False, api_visibility="private")


def _section(name: str, heading: str, *classes: str) -> gr.Column:
    column = gr.Column(elem_classes=["rill-section", *classes], elem_id=f"rill-{name}")
    with column:
        title(heading)
    return column


def _row(controls: Controls, row: Row) -> None:
    """A switch, its present effect, and its sliders, which show only while it is on. Nothing if it is not declared."""
    if row.switch not in controls.fields:
        return
    rule = controls.fields[row.switch].metadata
    kind = rule["kind"]
    options: dict[str, Any] = {"info": row.hint} if row.hint else {}
    if row.choices:
        options["choices"] = [choice for choice in row.choices if choice[1] in rule["options"]]
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
    with _section("more", "More"):
        for key in keys:
            controls.make(key, label(key))


def label(key: str) -> str:
    """A readable name for a setting that this layout does not list."""
    return key.replace(".", " ").replace("_", " ").capitalize()
