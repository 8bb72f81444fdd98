"""A server's configuration: the pipelines that serve its spec."""

from __future__ import annotations

from pipelines import StreamSpec
from studio.visit.config import ServerConfig


def test_each_device_serves_the_spec_with_a_pipeline_of_its_own() -> None:
    spec = StreamSpec(width=256, height=192)
    assert ServerConfig(spec).each(spec) == [spec]
    shared = ServerConfig(spec, devices=("cuda:0", "cuda:1")).each(spec)
    assert [(each.device, each.width, each.height) for each in shared] == [("cuda:0", 256, 192), ("cuda:1", 256, 192)]
