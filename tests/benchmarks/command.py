"""Runs a benchmark from its command line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks import cli


def closing(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The JSON object in the last line of the output. The result is not written to benchmarks/results."""
    assert cli.main([*arguments, "--no-keep"]) == 0
    return dict(json.loads(capsys.readouterr().out.strip().splitlines()[-1]))
