"""The Gradio side: every declared setting has one control, which the client finds by its id and Gradio's events leave alone."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from pipelines import FIELDS, StreamSpec
from studio.web.page import mount
from studio.web.page.controls import Controls, element_id, slider_step
from studio.web.page.layout import build
from studio.web.page.site import head, in_event_loop


def config_of(fields: Mapping[str, Any], spec: StreamSpec | None) -> dict[str, Any]:
    return in_event_loop(lambda: build(fields, spec, None).get_config_file())


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return config_of(FIELDS, StreamSpec())


def controls_of(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {component["props"]["elem_id"]: component for component in config["components"] if component["props"].get("elem_id")}


@pytest.mark.parametrize("key", FIELDS)
def test_every_setting_has_one_control_that_the_client_listens_to(config: dict[str, Any], key: str) -> None:
    control = controls_of(config)[element_id(key)]
    assert control["props"]["value"] == FIELDS[key].default
    markup = [component["props"].get("html_template") or "" for component in config["components"]]
    (keys,) = [found[1] for text in markup if (found := re.search(r'data-part="controls".* data-keys="([^"]*)"', text))]
    assert keys.split().count(key) == 1
    assert not [event for event in config["dependencies"] if control["id"] in [target[0] for target in event["targets"]]]


def test_no_event_reaches_python(config: dict[str, Any]) -> None:
    assert config["dependencies"]
    assert not any(event["backend_fn"] for event in config["dependencies"])


def test_acknowledged_values_reach_all_controls(config: dict[str, Any]) -> None:
    (bridge,) = [event for event in config["dependencies"] if "rill.values(" in (event["js"] or "")]
    keys = json.loads(bridge["js"].partition("rill.values(")[2].rstrip(")"))
    by_id = {component["id"]: component["props"].get("elem_id") for component in config["components"]}
    assert [by_id[target] for target in bridge["outputs"]] == [element_id(key) for key in keys]
    assert sorted(keys) == sorted(FIELDS)


def test_a_setting_declared_later_is_still_within_reach() -> None:
    new = {"glow": FIELDS["strength"], "gate.new_rule": FIELDS["gate.threshold"], "echo.enabled": FIELDS["gate.enabled"]}
    controls = controls_of(config_of({**FIELDS, **new}, None))
    for key in new:
        assert element_id(key) in controls


def test_a_setting_that_is_gone_leaves_no_control() -> None:
    fewer = {key: field for key, field in FIELDS.items() if not key.startswith(("cache.", "guidance")) and key != "seed"}
    controls = controls_of(config_of(fewer, None))
    assert element_id("cache.enabled") not in controls
    assert "rill-dice" not in controls


def test_steps_end_where_the_engine_does() -> None:
    spec = dataclasses.replace(StreamSpec(), max_steps=3)
    assert controls_of(config_of(FIELDS, spec))[element_id("steps")]["props"]["maximum"] == 3


def test_a_control_is_made_once() -> None:
    controls = Controls(FIELDS)
    assert controls.make("unknown", "Unknown") is None


@pytest.mark.parametrize(("low", "high", "step"), [(0.0, 1.0, 0.01), (0.0, 10.0, 0.1), (0.5, 0.9999, 0.01), (0.0, 0.5, 0.01)])
def test_slider_steps_are_round(low: float, high: float, step: float) -> None:
    assert slider_step(low, high) == pytest.approx(step)


def test_the_page_names_no_other_host_of_its_own() -> None:
    app = mount(FastAPI(), fields=FIELDS, spec=StreamSpec(), info=None)
    with TestClient(app) as client:
        answer = client.get("/", headers={"Accept-Encoding": "br, gzip"})
        page = answer.text
        assert client.head("/").status_code == 200 and client.get("/config").json()["version"]
        theme = client.get("/theme.css").text
        icon = client.get("/favicon.ico")
    assert icon.headers["content-type"].startswith("image/svg")
    assert "//" not in head()
    assert page.index("rill/client/calm.js") < page.index("rill/client/studio.js") < page.index('type="module"'), "before Gradio"
    assert "rill/client/studio.js" in page and int(answer.headers["content-length"]) == len(answer.content)
    assert "fonts.g" not in page + theme
    assert '"analytics_enabled":false' in page.replace(" ", "")
