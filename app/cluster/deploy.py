"""Deploys the app on a Ray cluster by Ray Serve. Imported only where Ray is installed."""

import logging
import os
import re
import socket
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.schema import ApplicationStatus

from app.cluster.errors import ClusterError
from app.cluster.plan import NAME, Shape, deployment_options, environment, version_of
from app.cluster.replica import Replica
from app.settings import Settings

_PACKAGE = Path(__file__).parents[1]
_KNOCK_SECONDS = 5.0


def deploy(settings: Settings, shape: Shape, targets: Path, address: str) -> None:
    """Returns when every replica answers. What runs already is changed: another number of replicas alone restarts
    none. Raises ClusterError."""
    _connect(address, environment(_PACKAGE))
    serve.start(
        proxy_location="EveryNode",
        http_options={"host": settings.app_host, "port": settings.app_port},
        logging_config={"enable_access_log": False},
    )
    options = deployment_options(settings, shape)
    # This code, also where an older one was deployed, from which Serve's controller would pass on its own.
    code = ray.get_runtime_context().runtime_env["py_modules"]
    options["ray_actor_options"]["runtime_env"]["py_modules"] = code
    replica: Any = serve.deployment(**options)(serve.ingress()(Replica))
    # Serve's own default is a new version at each `serve.run`, which restarts every replica.
    replica = replica.options(version=version_of(settings, str(code), targets), _internal=True)
    try:
        serve.run(replica.bind(settings, targets), name=NAME, logging_config={"enable_access_log": False})
    except RuntimeError as error:
        raise ClusterError(f"The app does not run on the cluster: {_reason() or error}") from None


def replicas(address: str) -> dict[str, int] | None:
    """How many there are in each state (RUNNING, STARTING, STOPPING, ...); None where the app is not deployed.
    Raises ClusterError."""
    _connect(address)
    application = serve.status().applications.get(NAME)
    if application is None or application.status is ApplicationStatus.NOT_STARTED:
        return None
    return {
        getattr(state, "value", state): count
        for deployment in application.deployments.values()
        for state, count in deployment.replica_states.items()
    }


def remove(address: str) -> None:
    """Returns when the last answer has ended, and Serve is gone from the cluster. Raises ClusterError."""
    _connect(address)
    there = NAME in serve.status().applications
    if there:
        serve.delete(NAME)
    serve.shutdown()
    if not there:
        raise ClusterError("The app is not deployed on this cluster.")


def _reason() -> str:
    """Why replicas did not start: the last line of the last one's traceback, without its class."""
    application = serve.status().applications.get(NAME)
    told = [deployment.message for deployment in application.deployments.values()] if application else []
    lines = [line for text in told for line in text.splitlines() if line.strip()]
    return re.sub(r"^[\w.]+: ", "", lines[-1]) if lines else ""


def _connect(address: str, runtime_env: dict[str, Any] | None = None) -> None:
    _knock(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # the commands say themselves what was done
    try:
        ray.init(
            address=address, namespace="serve", runtime_env=runtime_env, log_to_driver=False, logging_level="warning"
        )
    except ConnectionError as error:
        raise ClusterError(f"No Ray cluster answers: {error} Start one by `ray start --head`.") from None


def _knock(address: str) -> None:
    """Raises ClusterError where nothing listens: Ray itself tries for minutes, and says nothing of it."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in address:  # a name of Ray's, or another kind of address
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"No Ray cluster answers on {address} ({error}). Start one by `ray start --head`."
        ) from None
