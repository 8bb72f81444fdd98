"""What a welcome has on the model: presets that this stream can do, and no others."""

from __future__ import annotations

import logging

import pytest

from pipelines import Preset, StreamSpec
from studio.model.change import facts
from tests.studio.fake import FakePipeline


def test_a_preset_that_this_stream_cannot_do_is_not_offered_and_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    pipeline = FakePipeline(StreamSpec(width=128, height=128, max_steps=2))
    pipeline.info.presets = (Preset("fast", {"cache.enabled": True}, 0.3, 0.97), Preset("many", {"steps": 4}, 1.0, 1.0))
    with caplog.at_level(logging.WARNING, "rill"):
        model = facts(pipeline)["model"]  # type: ignore[arg-type]
    assert model["presets"] == [{"name": "fast", "settings": {"cache.enabled": True}, "cost": 0.3, "ssim": 0.97}]
    assert "preset many is not offered: steps" in caplog.text
