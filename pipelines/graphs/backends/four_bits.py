"""The residuals of split layers (pipelines/networks/svdquant.py) in 4 bits, in an OpenVINO graph: NNCF's `int4_sym`, which is the
reference's Q with scales in float16. All else stays as it is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.networks import svdquant

OTHERS = r"^(?!.*\.residual[./]).*$"
"""Names of nodes that are no residual's."""


def compressed(model: Any) -> Any:
    """The graph with its residuals as constants of 4 bits; the same graph where it has none."""
    if not any(".residual" in node.get_friendly_name() for node in model.get_ops()):
        return model
    import nncf

    with quiet_nncf():
        return nncf.compress_weights(
            model,
            mode=nncf.CompressWeightsMode.INT4_SYM,
            group_size=svdquant.GROUP,
            all_layers=True,
            backup_mode=nncf.BackupMode.NONE,
            ignored_scope=nncf.IgnoredScope(patterns=[OTHERS], validate=False),
        )


@contextmanager
def quiet_nncf() -> Iterator[None]:
    """Without its log below errors, and without the progress bars that it draws on the console of the server."""
    import rich

    logging.getLogger("nncf").setLevel(logging.ERROR)  # its own function also changes the handlers, which others may share
    console = rich.get_console()
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before
