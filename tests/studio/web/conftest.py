"""A server with the fake engine, for the tests of one file."""

from collections.abc import Iterator

import pytest

from studio.wire.limits import Limits
from tests.studio.harness import Running, serving


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with serving(Limits(max_sessions=8)) as running:
        yield running
