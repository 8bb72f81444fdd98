"""The studio as a Ray Serve deployment: replicas that each hold a model and their visitors' sessions, behind one gateway.

Ray Serve starts, watches, scales and drains the replicas, and finds the one with the fewest connections. A replica is the app of
`app.py serve` on its own listener. Frames pass from the gateway to that listener unchanged. Serve's own proxy would send each
websocket message through two pickles, with compression and without a limit of its size.

- **Placing.** A streaming call, `Studio.attach`, holds every connection. So Serve's ongoing requests are connections:
  its router balances them, its autoscaler follows them, and its draining waits for them.
- **Affinity.** A welcome names its replica (`at`). A client that reconnects sends this name in the address (`?at=`), and the
  router chooses that replica while it lives. Otherwise it chooses another one, which does not have the session; then the client
  starts a new session with the last acknowledged settings.
- **Draining.** A call lasts at most `lease_s`; then the gateway makes another one on the same replica. A replica that is to be
  removed gets no further calls, so it has none after at most `lease_s`. Then Serve ends it, and the remaining clients receive
  1012 (service restart) and reconnect to another replica. The calls of a dead gateway end in the same way.
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

from deploy.gateway import NoReplicaError
from pipelines import load
from studio import environment
from studio.cli.run_server import websocket_options
from studio.visit.config import ServerConfig
from studio.visit.hub import Hub

APPLICATION = "rill"
GRACE_S = 30.0
"""Time after a lease until a replica that has not ended is killed."""

log = logging.getLogger("rill")


@dataclass(frozen=True, slots=True)
class Cluster:
    """The parameters of a deployment.

    least, most: replicas. cpus, gpus: of one replica. host: the address of the replicas' listeners, for the gateway only; None
    is that of their node. lease_s: see above.
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
    """Routes a call to the replica in its argument `at` while that one runs, else to the one with the fewest calls."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        at = None if pending_request is None else pending_request.kwargs.get("at")
        named = [replica for replica in candidate_replicas if replica.replica_id.unique_id == at]
        return [named or candidate_replicas]


class Studio:
    """One replica: the app, its model and its sessions, on its own port."""

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
        """Yield this replica's address when it listens, and end after one lease. `at` is for the router."""
        while not self._server.started:
            await asyncio.sleep(0.02)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        yield Address(self._name, self._host, port)
        await asyncio.sleep(self._cluster.lease_s)

    async def inside(self, at: str | None = None) -> dict[str, Any]:
        """The identity of this replica, for operators and tests."""
        return {"pid": os.getpid(), "sessions": self._hub.seats.connected, "at": self._name}

    def check_health(self) -> None:
        """Raises RuntimeError if this replica must be replaced: its model has failed or hangs, or its listener has closed."""
        status, body = self._hub.health()
        if not self._thread.is_alive() or body["status"] in ("failed", "stalled"):
            raise RuntimeError(f"the replica does not work: {status} {body}")

    async def __del__(self) -> None:
        """Called after draining: closes the remaining connections with 1012 (service restart), so clients reconnect elsewhere."""
        self._server.should_exit = True
        await asyncio.to_thread(self._thread.join, 10.0)


def listen_on(host: str) -> None:
    """Make this replica's gRPC server listen on `host` only. Ray 2.60 opens it on every interface, and it unpickles its input.

    Call it in the replica's constructor, before Serve opens that server.
    """
    opened = ray_replica.add_port_to_grpc_server
    if not isinstance(opened, partial):
        ray_replica.add_port_to_grpc_server = partial(lambda server, address: opened(server, address.replace("[::]", host)))


class HeldRoute:
    """A route on a replica, held by one call after another until `release`."""

    def __init__(self, router: RayRouter, call: Any, address: Address) -> None:
        self.host, self.port = address.host, address.port
        self._router, self._call, self._address = router, call, address
        self._task = asyncio.create_task(self._hold())

    def release(self) -> None:
        self._task.cancel()
        self._call.cancel()

    async def _hold(self) -> None:
        while True:
            try:
                async for _ in self._call:
                    pass
                self._call, address = await self._router.call(self._address.name)
            except NoReplicaError:
                return
            except RayError as error:  # the replica has ended, so the connection to it breaks too
                log.info("replica %s: %s", self._address.name, type(error).__name__)
                return
            if address != self._address:  # the replica accepts no further calls
                return self._call.cancel()


class RayRouter:
    """Chooses replicas by Ray Serve."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle.options(method_name="attach", stream=True)

    async def acquire(self, at: str | None) -> HeldRoute:
        """A route to a replica, to `at` if possible. Raises NoReplicaError."""
        return HeldRoute(self, *await self.call(at))

    async def call(self, at: str | None) -> tuple[Any, Address]:
        """A call that holds a route, and the replica's address. Raises NoReplicaError."""
        call = self._handle.remote(at=at)
        try:
            return call, await anext(call)
        except (RayError, RayServeException, StopAsyncIteration) as error:
            raise NoReplicaError(str(error)) from error
        except BaseException:
            call.cancel()
            raise


def application(cluster: Cluster) -> Any:
    """The application that Serve deploys."""
    limits = cluster.config.limits
    deployment = serve.deployment(
        request_router_config=RequestRouterConfig(request_router_class=FewestConnections),
        # The studio itself refuses further visitors or puts them in line. This limit only bounds silent connections.
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
    """Deploy on the Ray cluster at `address`, or on a new one on this machine. Blocks until it runs; returns the handle."""
    local = {} if address else {"include_dashboard": False, "num_cpus": cpus}
    ray.init(address, namespace=APPLICATION, logging_level="warning", **local)
    serve.start(proxy_location=ProxyLocation.Disabled)
    return deploy(cluster)


def deploy(cluster: Cluster) -> Any:
    """Deploy, or change the deployment. Blocks until it runs; returns the handle."""
    return serve.run(application(cluster), name=APPLICATION, route_prefix=None)


def stop() -> None:
    """End the deployment, and Ray if it was started here."""
    with contextlib.suppress(RayError):
        serve.shutdown()
    ray.shutdown()
