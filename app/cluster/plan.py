"""What `cluster up` asks of Serve."""

import hashlib
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from app.settings import Settings, SettingsError

NAME = "app"
"""Of the application and of its deployment, in Ray's own words."""

_ANSWERS, _PROBES = 512, 64
"""As many answers as ever run at once in a replica with a model of its own (MAX_SEQUENCES), and what comes beside."""

_LAST_SECONDS = 10
"""From the end of the last answer to the end of the process: Serve looks each second, and the engine stops."""

_RUN_WITHOUT_WAITING = 32
"""What a replica is to have at once where MAX_SEQUENCES is 0: as many as a CPU runs (CPU_SEQUENCES)."""


@dataclass(frozen=True)
class Shape:
    """How many replicas of which size. `up_after` and `down_after` are in seconds."""

    fewest: int
    most: int
    gpus: int
    cpus: float
    up_after: float
    down_after: float


def at_every_node(settings: Settings) -> Settings:
    """The settings with paths that mean the same in every process of the cluster. Raises SettingsError."""
    if not (ip_address(settings.app_host).is_loopback or settings.api_keys_file or settings.allow_anonymous):
        raise SettingsError(
            f"APP_HOST={settings.app_host} is open to other machines: set API_KEYS_FILE, or ALLOW_ANONYMOUS=yes."
        )
    paths = {"models_dir": settings.models_dir.absolute(), "cache_dir": settings.cache_dir.absolute()}
    if settings.api_keys_file is not None:
        paths["api_keys_file"] = settings.api_keys_file.absolute()
    if Path(settings.model).exists():  # a folder, and no name of the catalogue
        return settings.model_copy(update={**paths, "model": str(Path(settings.model).absolute())})
    return settings.model_copy(update=paths)


def deployment_options(settings: Settings, shape: Shape) -> dict[str, Any]:
    """Arguments of `serve.deployment`.

    A replica holds more requests than its own admission takes, so that a refusal is the app's, with its Retry-After.
    Nothing ends a replica's last answers but their own deadline (REQUEST_TIMEOUT).
    """
    at_once = settings.upstream_requests or _RUN_WITHOUT_WAITING
    return {
        "name": NAME,
        "max_ongoing_requests": max(_ANSWERS, at_once) + _PROBES + settings.max_waiting,
        "autoscaling_config": {
            "min_replicas": shape.fewest,
            "max_replicas": shape.most,
            "initial_replicas": shape.fewest,
            "target_ongoing_requests": at_once,
            "upscale_delay_s": shape.up_after,
            "downscale_delay_s": shape.down_after,
            "metrics_interval_s": 1,
            "look_back_period_s": 5,
        },
        "graceful_shutdown_timeout_s": settings.request_timeout + _LAST_SECONDS,
        "graceful_shutdown_wait_loop_s": 1,
        "health_check_period_s": 5,
        "ray_actor_options": {
            "num_cpus": shape.cpus,
            "num_gpus": shape.gpus,
            # Ray shows a replica its own GPUs by this variable, and hides them no longer from one that has none.
            "runtime_env": {"env_vars": {} if shape.gpus else {"CUDA_VISIBLE_DEVICES": ""}},
        },
    }


def version_of(settings: Settings, code: str, targets: Path) -> str:
    """Other with whatever makes a running replica another one: Serve restarts the replicas of another version."""
    values = {  # a secret's own representation is the same for all
        name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in settings
    }
    return hashlib.sha256(repr((values, code, targets)).encode()).hexdigest()[:16]


def environment(package: Path) -> dict[str, Any]:
    """Ray's runtime environment of all processes: the code, and how Serve's proxies work."""
    return {
        "py_modules": [str(package)],
        "excludes": ["__pycache__"],
        "env_vars": {
            "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "app.cluster.ingress:middlewares",
            # The shortest queue of the cluster, not of the node whose proxy was asked.
            "RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0",
            # Seconds that a proxy has to start, by default 5: a busy machine takes longer, and Serve would kill it.
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
            "RAY_SERVE_LOG_TO_STDERR": "0",
        },
    }
