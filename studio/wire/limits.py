"""Every bound of the studio in one place, and the bucket that enforces rates. Pure: `now` is an argument."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one server. Times in seconds unless the name ends in ms; sizes in bytes and pixels."""

    credit: int = 2
    max_frame_bytes: int = 4 * 1024 * 1024
    max_side: int = 2048
    max_pixels: int = 2048 * 2048
    max_mask_bytes: int = 1024 * 1024
    max_mask_side: int = 1024
    max_age_ms: float = 1000.0
    hello_s: float = 5.0
    ping_s: float = 15.0
    idle_s: float = 600.0
    grace_s: float = 60.0
    telemetry_s: float = 1.0
    messages_per_s: float = 500.0
    bytes_per_s: float = 64.0 * 1024 * 1024
    errors_per_s: float = 1.0
    errors_at_once: float = 20.0
    texts_waiting: int = 64
    max_sessions: int = 4
    max_waiting: int = 64
    turn_s: float = 120.0
    warning_s: float = 15.0
    max_viewers: int = 8
    max_body_bytes: int = 16 * 1024
    body_s: float = 10.0
    max_connections: int = 1024
    max_per_address: int = 256
    max_before_hello: int = 256
    header_s: float = 10.0
    keep_alive_s: float = 5.0
    close_s: float = 5.0
    write_s: float = 30.0
    end_s: float = 30.0
    frames_per_s: float = 1000.0
    controls_per_s: float = 10.0
    controls_at_once: float = 50.0
    max_fragments: int = 1024

    PUBLIC = (
        "credit",
        "max_frame_bytes",
        "max_pixels",
        "max_side",
        "max_mask_bytes",
        "max_mask_side",
        "max_age_ms",
        "ping_s",
        "idle_s",
        "messages_per_s",
        "bytes_per_s",
    )

    def public(self) -> dict[str, float]:
        """The limits that a welcome names."""
        return {name: getattr(self, name) for name in self.PUBLIC}


class TokenBucket:
    """A token bucket: `rate` per second on average, `size` at once. Starts full."""

    def __init__(self, rate: float, size: float) -> None:
        self.rate, self.size = rate, size
        self._level = size
        self._at: float | None = None

    def take(self, amount: float, now: float) -> bool:
        """True if `amount` fits; what does not fit takes nothing."""
        if self._at is not None:
            self._level = min(self.size, self._level + max(0.0, now - self._at) * self.rate)
        self._at = now
        if amount > self._level:
            return False
        self._level -= amount
        return True
