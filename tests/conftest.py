"""Fixtures of several folders."""

from __future__ import annotations

import gc
import logging
import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("steady", deadline=None)  # the time of an example depends on the machine's load
settings.load_profile("steady")

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait for each other are slow on a busy machine
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


def pytest_collection_finish() -> None:
    """Exempt what is imported by now from garbage collection. Each graph of OpenVINO is built with two full collections, which
    took 0.3 s each for the objects of torch, diffusers and Gradio alone."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    """Undo changes of earlier tests to the loggers: levels, filters, switches."""
    logging.disable(logging.NOTSET)
    logging.getLogger().setLevel(logging.WARNING)
    rill = logging.getLogger("rill")
    rill.disabled, rill.propagate, rill.filters = False, True, []
    rill.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def mini_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature checkpoint folder (epsilon prediction)."""
    from tests.miniature import save_miniature

    return save_miniature(tmp_path_factory.mktemp("models") / "mini")
