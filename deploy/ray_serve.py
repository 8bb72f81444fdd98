"""The studio as a Ray Serve deployment: replicas that each hold a model and their visitors' sessions, behind one gateway.

Ray Serve starts, watches, scales and drains the replicas, and says which one has the fewest connections; a replica is the app of
`app.py serve` on a listener of its own. Frames pass from the gateway to that listener as they are: Serve's own proxy would hand
each websocket message through two processes' pickles, with compression on and no say over sizes.

- **Placing.** Every connection is held by a streaming call, `Studio.attach`. So what Serve counts as ongoing requests are
  connections, which its router balances, its autoscaler follows, and its draining waits for.
- **Affinity.** A welcome names its replica (`at`); a client that reconnects says it in the address (`?at=`), and the router
  sends it there while that replica lives. Otherwise it goes to another one, which does not know the session: the client begins
  a new one with the settings that were acknowledged last.
- **Draining.** A call lasts `lease_s` at most, then the gateway asks for another one on the same replica. One that shall go gets
  no calls any more: after `lease_s` at the latest it has none left, Serve ends it, and whoever is still connected is told that
  the service restarts (1012) and goes on elsewhere. The calls of a gateway that has died end in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import ray
import uvicorn
from ray import serve
from ray.exceptions import RayError
from ray.serve._private import replica as ray_replica
from ray.serve.config import AutoscalingConfig, ProxyLocation, RequestRouterConfig
from ray.serve.exceptions import RayServeException
from ray.serve.request_router import FIFOMixin, PendingRequest, RequestRouter, RunningReplica

from deploy.gateway import PlaceError
from pipelines import load
from studio import environment
from studio.cli.serve import websocket_options
from studio.visit.hub import Hub, ServerConfig

APPLICATION = "rill"
GRACE_S = 30.0
"""Beyond a lease, before a replica that does not end by itself is killed."""

log = logging.getLogger("rill")


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a cluster is started with.

    least, most: replicas. cpus, gpus: of one replica. host: the address that replicas listen on, for the gateway's eyes only;
    None is that of their node. lease_s: see above.
    """

    config: ServerConfig
    least: int = 1
    most: int = 4
    cpus: float = 2.0
    gpus: float = 0.0
    host: str | None = "127.0.0.1"
    lease_s: float = 120.0
    offline: bool = True


@dataclass(frozen=True, slots=True)
class Address:
    """A replica's name and its listener."""

    name: str
    host: str
    port: int


class FewestConnections(FIFOMixin, RequestRouter):
    """Sends a call to the replica named by its argument `at` while that one runs, else to the one with the fewest calls."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        at = None if pending_request is None else pending_request.kwargs.get("at")
        named = [replica for replica in candidate_replicas if replica.replica_id.unique_id == at]
        return [named or candidate_replicas]


class Studio:
    """One replica: the app, its model and its sessions, on a port of its own."""

    def __init__(self, cluster: Cluster) -> None:
        from studio.web.server import create_app  # imports Gradio

        self._host = ray.util.get_node_ip_address() if cluster.host is None else cluster.host
        listen_on(self._host)
        self._cluster = cluster
        self._name = serve.get_replica_context().replica_id.unique_id
        config = replace(cluster.config, name=self._name)
        app = create_app(config, lambda spec: load(spec, environment.cache_dir(), cluster.offline))
        self._hub: Hub = app.state.hub
        served: Any = {"log_level": "warning", "proxy_headers": False, "server_header": False} | websocket_options(config.limits)
        self._server = uvicorn.Server(uvicorn.Config(app, host=self._host, port=0, timeout_graceful_shutdown=3, **served))
        self._thread = threading.Thread(target=self._server.run, name="rill-server", daemon=True)
        self._thread.start()

    async def attach(self, at: str | None = None) -> AsyncIterator[Address]:
        """Yields this replica's address as soon as it listens, and lasts a lease. `at` is for the router."""
        while not self._server.started:
            await asyncio.sleep(0.02)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        yield Address(self._name, self._host, port)
        await asyncio.sleep(self._cluster.lease_s)

    async def inside(self, at: str | None = None) -> dict[str, Any]:
        """Who this replica is, for operators and tests."""
        return {"pid": os.getpid(), "sessions": self._hub.seats.connected, "at": self._name}

    def check_health(self) -> None:
        """Raises RuntimeError if this replica should be replaced: its model has failed or hangs, or its listener is gone."""
        status, body = self._hub.health()
        if not self._thread.is_alive() or body["status"] in ("failed", "stalled"):
            raise RuntimeError(f"the replica is of no use: {status} {body}")

    async def __del__(self) -> None:
        """Draining is over: whoever is still here is told that the service restarts, and goes elsewhere."""
        self._server.should_exit = True
        await asyncio.to_thread(self._thread.join, 10.0)


def listen_on(host: str) -> None:
    """Have this replica's gRPC server listen there alone. Ray 2.60 opens it on every interface, and it unpickles what it is sent.

    Called while the replica is being made, which is before Serve opens that server.
    """
    opened = ray_replica.add_port_to_grpc_server
    if not isinstance(opened, partial):
        ray_replica.add_port_to_grpc_server = partial(lambda server, address: opened(server, address.replace("[::]", host)))


class Held:
    """A place on a replica, held by one call after another until `leave`."""

    def __init__(self, places: RayPlaces, call: Any, address: Address) -> None:
        self.host, self.port = address.host, address.port
        self._places, self._call, self._address = places, call, address
        self._task = asyncio.create_task(self._hold())

    def leave(self) -> None:
        self._task.cancel()
        self._call.cancel()

    async def _hold(self) -> None:
        while True:
            try:
                async for _ in self._call:
                    pass
                self._call, address = await self._places.call(self._address.name)
            except PlaceError:
                return
            except RayError as error:  # the replica is gone; the connection to it is about to break, or has broken already
                log.info("replica %s: %s", self._address.name, type(error).__name__)
                return
            if address != self._address:  # this replica takes no calls any more
                return self._call.cancel()


class RayPlaces:
    """Places as Ray Serve gives them."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle.options(method_name="attach", stream=True)

    async def take(self, at: str | None) -> Held:
        """Raises PlaceError."""
        return Held(self, *await self.call(at))

    async def call(self, at: str | None) -> tuple[Any, Address]:
        """A call that holds a place, and the replica's address. Raises PlaceError."""
        call = self._handle.remote(at=at)
        try:
            return call, await anext(call)
        except (RayError, RayServeException, StopAsyncIteration) as error:
            raise PlaceError(str(error)) from error
        except BaseException:
            call.cancel()
            raise


def application(cluster: Cluster) -> Any:
    """What Serve deploys."""
    limits = cluster.config.limits
    deployment = serve.deployment(
        request_router_config=RequestRouterConfig(request_router_class=FewestConnections),
        # The studio itself refuses or lines up who is too many; this bound only keeps connections that say nothing finite.
        max_ongoing_requests=2 * limits.max_sessions + limits.max_waiting + 64,
        autoscaling_config=AutoscalingConfig(
            min_replicas=cluster.least,
            max_replicas=cluster.most,
            initial_replicas=cluster.least,
            target_ongoing_requests=max(1.0, 0.75 * limits.max_sessions),
            upscale_delay_s=5.0,
            downscale_delay_s=300.0,
        ),
        ray_actor_options={"num_cpus": cluster.cpus, "num_gpus": cluster.gpus},
        graceful_shutdown_timeout_s=cluster.lease_s + GRACE_S,
        graceful_shutdown_wait_loop_s=1.0,
        health_check_period_s=2.0,
        health_check_timeout_s=10.0,
    )
    return deployment(Studio).bind(cluster)


def start(cluster: Cluster, address: str | None = None, cpus: float | None = None) -> Any:
    """Deploy on the Ray cluster at `address`, or on one of this machine alone; returns the handle once it runs. Blocks."""
    local = {} if address else {"include_dashboard": False, "num_cpus": cpus}
    ray.init(address, namespace=APPLICATION, logging_level="warning", **local)
    serve.start(proxy_location=ProxyLocation.Disabled)
    return deploy(cluster)


def deploy(cluster: Cluster) -> Any:
    """Deploy, or change what is deployed; returns the handle once it runs. Blocks."""
    return serve.run(application(cluster), name=APPLICATION, route_prefix=None)


def stop() -> None:
    """End the deployment, and Ray if it was started here."""
    with contextlib.suppress(RayError):
        serve.shutdown()
    ray.shutdown()
