"""What one server is started with."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pipelines import Settings, StreamSpec
from studio.model.change import ChangeRule
from studio.visit.blocklist import Blocklist
from studio.wire.limits import Limits
from studio.wire.origin import AddressRule


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What one server is started with. The token is a random one unless given. name: which of several servers behind one address
    this is; clients that reconnect name it. devices: a model on each instead of on the spec's. opening: the settings that
    sessions start with. ahead: graphs for several sessions are built while none is connected, and all of them in a process of
    their own. metrics_port: a port of its own for /metrics, where no token is needed. public, users: of studio.web.login.Door.
    fit_share: of one core that the fit of a picture's style may take, 0 for no fits. watch_waiting: clients that wait for a seat
    may watch the session whose turn began first.
    """

    spec: StreamSpec = field(default_factory=StreamSpec)
    limits: Limits = field(default_factory=Limits)
    rule: AddressRule = field(default_factory=AddressRule)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    changes: ChangeRule = field(default_factory=ChangeRule)
    words: Blocklist = field(default_factory=Blocklist)
    name: str | None = None
    devices: tuple[str, ...] = ()
    opening: Settings = field(default_factory=Settings)
    ahead: bool = False
    metrics_port: int | None = None
    public: bool = True
    users: Mapping[str, str] = field(default_factory=dict)
    fit_share: float = 0.0
    watch_waiting: bool = False

    def each(self, spec: StreamSpec) -> list[StreamSpec]:
        """The specs of the pipelines that serve `spec`, one per device."""
        return [replace(spec, device=device) for device in self.devices] or [spec]
