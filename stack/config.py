"""The few settings that the stack itself reads: the environment's, else those of `.env`, else the defaults.

The app's settings (app/settings.py) are checked by the app. What both need (HTTP_HOST, DRAIN_SECONDS, …) is read
here a second time, because this package runs before the virtual environment exists; a test holds the defaults
of the two against each other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from stack.protocol import StackError

ROOT = Path(__file__).resolve().parents[1]
ENV_FILE = ROOT / ".env"
Mode = Literal["", "docker", "native"]
Balance = Literal["least_conn", "key"]
INSTALL_SETTINGS = (
    "TORCH_BUILD",
    "TORCH_CPU_INDEX",
    "TORCH_CUDA_INDEX",
    "FLASH_ATTN",
    "FLASH_ATTN_WHEELS",
    "FLASH_ATTN_CUDA_ARCHS",
)
"""What requirements/install.sh reads from its environment; compose.yaml hands the same names to the image's build."""
VLLM_URL = "http://vllm:8000/v1"
"""Where the app's container reaches vLLM's, as compose.vllm.yaml says too."""
_ORIGIN = re.compile(r"(\*|null|[a-z][a-z0-9+.-]*://[A-Za-z0-9._:\[\]-]+)\Z")
_THIS_MACHINE = ("127.0.0.1", "localhost", "[::1]")
_UPSTREAM = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})\Z")
_LISTED = re.compile(r"^#? ?([A-Z][A-Z_]+)=", re.MULTILINE)


@dataclass(frozen=True)
class Config:
    """Paths are absolute; a relative one in the settings is meant from the repository's root."""

    mode: Mode  # "": choose by what the machine has
    http_host: str
    http_port: int
    prometheus_port: int
    grafana_port: int
    state_dir: Path
    log_megabytes: int
    log_files: int
    log_days: int
    models_dir: Path
    cache_dir: Path
    models_dir_given: bool
    model: str
    vllm: bool  # ENGINE=vllm: vLLM's own container computes the answers
    engine_urls: tuple[str, ...]  # of the servers that compute the answers; none where the app does
    engine_key: str | None
    api_keys_file: Path | None
    cors_origins: str  # separated by commas, without spaces
    upstreams: tuple[str, ...]  # HOST:PORT of other boxes, beside this stack's own app
    upstream_balance: Balance
    max_body_bytes: int
    drain_seconds: int
    request_timeout: float
    startup_deadline: float
    gpu_reserve: float

    @property
    def remote(self) -> bool:
        """Whether other servers compute the answers: then no model is fetched, and no GPU is used."""
        return bool(self.engine_urls)

    @property
    def stop_seconds(self) -> int:
        """After which a stopped app is killed: the last rung of the ladder in docker/gunicorn.conf.py."""
        return self.drain_seconds + 20

    @property
    def address(self) -> str:
        """Where this machine itself reaches nginx, `http://HOST:PORT`."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.http_host, self.http_host)
        return f"http://[{host}]:{self.http_port}" if ":" in host else f"http://{host}:{self.http_port}"


def load_config(environ: Mapping[str, str] = os.environ, env_file: Path = ENV_FILE) -> Config:
    """Raises StackError, naming the variable, when a value cannot be meant."""
    values = read_env_file(env_file) | {name: value for name, value in environ.items() if value}
    state_dir = _path(values.get("STATE_DIR", "var"))
    keys_file = values.get("API_KEYS_FILE")
    mode = values.get("MODE", "").lower()
    if mode not in ("", "docker", "native"):
        raise StackError(f"MODE={mode}: use docker, native, or nothing, which means Docker where its engine answers.")
    balance = values.get("UPSTREAM_BALANCE", "least_conn").lower()
    if balance not in ("least_conn", "key"):
        raise StackError(f"UPSTREAM_BALANCE={balance}: use least_conn or key.")
    return Config(
        mode=cast("Mode", mode),
        http_host=values.get("HTTP_HOST", "127.0.0.1"),
        http_port=_port(values, "HTTP_PORT", 6006),
        prometheus_port=_port(values, "PROMETHEUS_PORT", 9090),
        grafana_port=_port(values, "GRAFANA_PORT", 3000),
        state_dir=state_dir,
        log_megabytes=_count(values, "LOG_MEGABYTES", 50),
        log_files=_count(values, "LOG_FILES", 5),
        log_days=int(_number(values, "LOG_DAYS", 30)),
        models_dir=_path(values["MODELS_DIR"]) if "MODELS_DIR" in values else state_dir / "models",
        cache_dir=_path(values["CACHE_DIR"]) if "CACHE_DIR" in values else state_dir / "cache",
        models_dir_given="MODELS_DIR" in values,
        model=values.get("MODEL", "auto"),
        vllm=_engine(values) == "vllm",
        engine_urls=_engine_urls(values),
        engine_key=values.get("ENGINE_API_KEY"),
        api_keys_file=_path(keys_file) if keys_file else None,
        cors_origins=_origins(values.get("CORS_ORIGINS", "")),
        upstreams=_upstreams(values.get("UPSTREAMS", ""), _port(values, "HTTP_PORT", 6006)),
        upstream_balance=cast("Balance", balance),
        max_body_bytes=int(_number(values, "MAX_BODY_BYTES", 2_097_152)),
        drain_seconds=int(_number(values, "DRAIN_SECONDS", 30)),
        request_timeout=_number(values, "REQUEST_TIMEOUT", 600),
        startup_deadline=_number(values, "STARTUP_DEADLINE", 1800),
        gpu_reserve=_number(values, "GPU_RESERVE", 2),
    )


def install_settings(environ: Mapping[str, str] = os.environ, env_file: Path = ENV_FILE) -> dict[str, str]:
    """The INSTALL_SETTINGS that somebody made: an empty one means something, as with TORCH_CPU_INDEX."""
    values = {**_lines(env_file), **environ}
    return {name: values[name] for name in INSTALL_SETTINGS if name in values}


def read_env_file(path: Path) -> dict[str, str]:
    """`NAME=value` lines; quotes around a value and ` # comments` behind it are dropped, empty values left out."""
    return {name: value for name, value in _lines(path).items() if value}


def known_settings() -> list[str]:
    """The names that `.env.example` lists: every setting there is."""
    example = ROOT / ".env.example"
    return sorted(set(_LISTED.findall(example.read_text(encoding="utf-8")))) if example.exists() else []


def _lines(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    values = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, separator, value = line.strip().removeprefix("export ").partition("=")
        if not separator or name.startswith("#"):
            continue
        value = value.strip()
        quote = value[:1]
        value = value[1:].partition(quote)[0] if quote and quote in "'\"" else value.partition(" #")[0].strip()
        values[name.strip().upper()] = value
    return values


def _path(value: str) -> Path:
    return (ROOT / Path(value).expanduser()).resolve()


def _engine(values: Mapping[str, str]) -> str:
    """The app refuses what is not known; `vllm` it never sees: in its container it is a gateway like any other."""
    return values.get("ENGINE", "local").lower()


def _engine_urls(values: Mapping[str, str]) -> tuple[str, ...]:
    """The app refuses wrong addresses; here it only matters whether there are any."""
    if _engine(values) == "vllm":
        if "ENGINE_URL" in values:
            raise StackError("ENGINE=vllm has a server of its own: unset ENGINE_URL, or use ENGINE=remote.")
        return (VLLM_URL,)
    if _engine(values) != "remote":
        return ()
    found = tuple(address.strip() for address in values.get("ENGINE_URL", "").split(",") if address.strip())
    if not found:
        raise StackError("ENGINE=remote needs ENGINE_URL, as http://HOST:PORT/v1.")
    return found


def _origins(value: str) -> str:
    """nginx' configuration gets them: nothing in them may end a string there."""
    origins = [origin.strip() for origin in value.split(",") if origin.strip()]
    if not all(_ORIGIN.match(origin) for origin in origins):
        raise StackError(f"CORS_ORIGINS={value}: use SCHEME://HOST[:PORT], separated by commas, or * for all.")
    return ",".join(origins)


def _upstreams(value: str, own: int) -> tuple[str, ...]:
    """nginx' configuration gets them. `own` is nginx' port: a refusal would go round in a circle."""
    addresses = tuple(address.strip() for address in value.split(",") if address.strip())
    for address in addresses:
        found = _UPSTREAM.match(address)
        if found is None or not 1 <= int(found[2]) <= 65_535:
            raise StackError(f"UPSTREAMS={value}: use HOST:PORT, separated by commas, as in 10.0.0.2:6006.")
    if any(address in {f"{host}:{own}" for host in _THIS_MACHINE} for address in addresses):
        raise StackError(f"UPSTREAMS={value}: port {own} of this machine is this stack's own. Name other boxes.")
    if len(set(addresses)) < len(addresses):
        raise StackError(f"UPSTREAMS={value}: names an address twice.")
    return addresses


def _number(values: Mapping[str, str], name: str, default: float) -> float:
    try:
        number = float(values.get(name, default))
    except ValueError:
        raise StackError(f"{name}={values[name]}: not a number.") from None
    if number < 0:
        raise StackError(f"{name}={values[name]}: must not be negative.")
    return number


def _count(values: Mapping[str, str], name: str, default: int) -> int:
    number = _number(values, name, default)
    if number != int(number) or number < 1:
        raise StackError(f"{name}={values[name]}: must be a whole number from 1 on.")
    return int(number)


def _port(values: Mapping[str, str], name: str, default: int) -> int:
    port = _number(values, name, default)
    if port != int(port) or not 1 <= port <= 65_535:
        raise StackError(f"{name}={values[name]}: must be a port, a whole number from 1 to 65535.")
    return int(port)
