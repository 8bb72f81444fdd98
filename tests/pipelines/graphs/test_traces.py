"""A trace leaves nothing in the process."""

from __future__ import annotations

import psutil

from pipelines import StreamSpec, load
from pipelines.graphs import malloc_trim
from pipelines.graphs.keys import GraphKey


def test_a_conversion_leaves_nothing_behind() -> None:
    """TorchScript keeps what it has traced for the life of the process, unless it is cleared: 13 MiB of this graph, each time."""
    pipeline = load(StreamSpec(model="pocket", width=128, height=128, backend="openvino"), offline=True, warm=False)

    def left() -> int:
        pipeline.graphs.build(GraphKey("shallow", 1, 1), must=True)
        pipeline.graphs.clear()
        malloc_trim.trim()
        return int(psutil.Process().memory_info().rss) >> 20

    before = max(left(), left())
    assert [left() for _ in range(3)][-1] - before < 20, "MiB after three more"
