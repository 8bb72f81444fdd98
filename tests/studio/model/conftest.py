"""A model thread with a fake pipeline."""

from collections.abc import Iterator

import pytest

from tests.studio.model.owner_harness import OwnerHarness


@pytest.fixture
def harness() -> Iterator[OwnerHarness]:
    made = OwnerHarness()
    made.owner.start()
    made.owner.loaded.result(10)
    yield made
    made.pipeline.hold.set()
    made.owner.close()
    assert made.pipeline.closed
