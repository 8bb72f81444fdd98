"""--preset: the named settings of the model, under --set and named options; an unknown name is refused with those there are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import app
from pipelines import SettingsError
from pipelines.values.presets import FILE
from studio.cli import serve_options
from studio.cli.arguments import settings_of

FAST = {"name": "fast", "settings": {"cache.enabled": True, "cache.interval": 7, "steps": 2}, "cost": 0.3, "ssim": 0.97}


@pytest.fixture(scope="module")
def model(mini_model: Path) -> str:
    (mini_model / FILE).write_text(json.dumps({"presets": [FAST]}))
    return str(mini_model)


def test_sessions_of_a_server_begin_with_it_and_an_assignment_wins(model: str) -> None:
    args = app.build_parser().parse_args(["serve", "--model", model, "--preset", "fast", "--set", "cache.interval=4"])
    settings = serve_options.opening_settings(args)
    assert (settings.cache.enabled, settings.cache.interval, settings.steps) == (True, 4, 2)


def test_a_render_takes_it_and_a_named_option_wins(model: str) -> None:
    args = app.build_parser().parse_args(["render", "in.mp4", "out.mp4", "--model", model, "--preset", "fast", "--steps", "1"])
    settings = settings_of(args)
    assert (settings.cache.interval, settings.steps) == (7, 1)


def test_an_unknown_name_is_refused(model: str) -> None:
    args = app.build_parser().parse_args(["serve", "--model", model, "--preset", "slow"])
    with pytest.raises(serve_options.UsageError, match=r"argument --preset: preset: 'slow' .* there are: fast"):
        serve_options.opening_settings(args)
    args = app.build_parser().parse_args(["render", "in.mp4", "out.mp4", "--model", model, "--preset", "slow"])
    with pytest.raises(SettingsError, match="there are: fast"):
        settings_of(args)
