"""Fixtures of several folders."""

from __future__ import annotations

import gc
import logging
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("steady", deadline=None)  # the time of an example depends on the machine's load
settings.load_profile("steady")

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait for each other are slow on a busy machine
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: what starts last should be short, or one worker ends while another still has minutes to go. Long tests
    and those with a browser get ten minutes, which they need on a busy machine."""
    for item in items:
        if item.get_closest_marker("long") or item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.timeout(600))
    long = {item.path for item in items if item.get_closest_marker("long") or item.get_closest_marker("browser")}
    items.sort(key=lambda item: item.path not in long)


MODULES_AT_ONCE = 100
frozen_modules = 0


def pytest_collection_finish() -> None:
    exempt_imports()


def pytest_runtest_teardown() -> None:
    """After a test that was the first to import a large library, as nncf or torch._dynamo."""
    if len(sys.modules) > frozen_modules + MODULES_AT_ONCE:
        exempt_imports()


def exempt_imports() -> None:
    """Exempt what is imported by now from garbage collection. Each graph of OpenVINO takes several full collections, which
    took 0.3 s each for the objects of torch, diffusers and Gradio alone."""
    global frozen_modules
    gc.collect()
    gc.freeze()
    frozen_modules = len(sys.modules)


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


@pytest.fixture(scope="session")
def one_chunk_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `mini_model`, for tests of static graphs: the default prompt is one chunk of its text encoder. See ONE_CHUNK."""
    from tests.miniature import ONE_CHUNK, save_miniature

    return save_miniature(tmp_path_factory.mktemp("models") / "one-chunk", tokens=ONE_CHUNK)


@pytest.fixture(scope="session")
def graph_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for OpenVINO's graphs that all files and both workers share: conversion is the slow part of many tests. A file is
    written beside its place and renamed, so a worker sees whole files only."""
    worker = tmp_path_factory.getbasetemp()
    folder = (worker.parent if os.environ.get("PYTEST_XDIST_WORKER") else worker) / "graphs"
    folder.mkdir(exist_ok=True)
    return folder
