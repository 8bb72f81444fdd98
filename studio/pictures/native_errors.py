"""What native libraries write to the standard error stream becomes log records, which are limited like all others.

libpng and libjpeg report every broken picture there, from C, and OpenCV has no option against it.
"""

from __future__ import annotations

import faulthandler
import io
import logging
import os
import sys
import threading

log = logging.getLogger("rill")

LONGEST = 500


def relay_native_errors() -> None:
    """Read file descriptor 2 from a thread from now on. Python's own `sys.stderr` still writes to where the descriptor led
    before.

    Call it once, before logging is configured. A crash in native code shows the Python stack of every thread.
    """
    reader, writer = os.pipe()
    stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    os.set_blocking(writer, False)  # a library that writes more than is read loses it, and never waits
    os.dup2(writer, 2)
    os.close(writer)
    sys.stderr = stderr
    faulthandler.enable(stderr)
    threading.Thread(target=_relay, args=(os.fdopen(reader, "rb"),), name="rill-native-errors", daemon=True).start()


def _relay(stream: io.BufferedReader) -> None:
    for line in iter(lambda: stream.readline(LONGEST), b""):
        if text := line.decode("utf-8", "backslashreplace").strip():
            log.warning("a native library reports: %s", text)
