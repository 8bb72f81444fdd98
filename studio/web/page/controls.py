"""One Gradio control per declared setting. The browser's client finds the controls by their ids."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.components import Component

SLIDER_STEPS = 100
WIDE = 1000
"""Whole numbers with a wider range than this get a box to type into rather than a slider."""


@dataclass(slots=True)
class Controls:
    """Makes controls from declarations and keeps them by their dotted key, in the order they were made."""

    fields: Mapping[str, Any]
    limits: Mapping[str, int] = field(default_factory=dict)
    made: dict[str, Component] = field(default_factory=dict)

    def make(self, key: str, label: str, **options: Any) -> Component | None:
        """The control of one setting; None if this setting is not declared or already has its control."""
        if key not in self.fields or key in self.made:
            return None
        control = self._build(key, label, **options)
        self.made[key] = control
        return control

    def rest(self) -> list[str]:
        """Declared settings that have no control yet."""
        return [key for key in self.fields if key not in self.made]

    def _build(self, key: str, label: str, **options: Any) -> Component:
        declaration = self.fields[key]
        rule, default = declaration.metadata, declaration.default
        common: dict[str, Any] = {"value": default, "label": label, "elem_id": element_id(key), "interactive": True}
        kind = rule["kind"]
        if kind == "flag":
            return gr.Checkbox(**common | {"info": rule["doc"]} | options)
        if kind == "choice":
            return gr.Radio(**common | {"choices": list(rule["options"]), "info": rule["doc"]} | options)
        if kind == "text":
            return gr.Textbox(max_length=rule["limit"], **common | {"lines": 1, "max_lines": 3} | options)
        if kind == "integer" and rule["high"] - rule["low"] > WIDE:
            return gr.Number(precision=0, minimum=rule["low"], maximum=rule["high"], **common | options)
        high = min(rule["high"], self.limits.get(key, rule["high"]))
        step = 1 if kind == "integer" else slider_step(rule["low"], high)
        return gr.Slider(rule["low"], high, step=step, buttons=[], **common | {"info": rule["doc"]} | options)


def element_id(key: str) -> str:
    """The HTML id of a setting's control: rill-gate-threshold for gate.threshold."""
    return "rill-" + key.replace(".", "-").replace("_", "-")


def slider_step(low: float, high: float) -> float:
    """A power of ten that gives a slider about SLIDER_STEPS positions."""
    return float(10.0 ** round(math.log10((high - low) / SLIDER_STEPS)))
