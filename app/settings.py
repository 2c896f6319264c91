"""One frozen settings object, read from the environment and an optional `.env`.

A wrong value, or an unknown name in `.env`, stops the start with a message that names the variable, the value
and what is allowed. `.env.example` lists every variable; a test keeps it complete.
"""

from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Self

from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.contract.options import Cleanup, Compile, DType, FlashAttn, LogContent

STACK_VARIABLES = {
    "MODE": "how `make up` starts the stack: docker, native, or empty to choose by itself",
    "HTTP_PORT": "the port that nginx listens on",
    "UPSTREAMS": "other boxes that nginx asks beside this stack's app: HOST:PORT of their nginx, separated by commas",
    "UPSTREAM_BALANCE": "which box is asked: least_conn, or key (one box for a key; without one, for an address)",
    "PROMETHEUS_PORT": "Prometheus' port on loopback",
    "GRAFANA_PORT": "Grafana's port on loopback (containers only)",
    "STATE_DIR": "where everything that is not in the repository lives: models, logs, sockets, metrics",
    "LOG_MEGABYTES": "size of a service's log, in MB, at which a new one is begun",
    "LOG_FILES": "logs that are kept of each service, the current one included",
    "LOG_DAYS": "days after which a line is gone, of plain processes (Docker knows sizes only); 0: whatever its age",
    "HF_ENDPOINT": "the address of a mirror of the Hugging Face hub",
    "HF_TOKEN": "a token for the Hugging Face hub",
    "MODELSCOPE_DOMAIN": "another host of ModelScope",
    "MODELSCOPE_API_TOKEN": "a token for ModelScope",
    "HTTP_PROXY": "the proxy for downloads over http",
    "HTTPS_PROXY": "the proxy for downloads over https",
    "NO_PROXY": "hosts that are reached without a proxy",
    "PYTHON_IMAGE": "the image that the app's images are built on",
    "NGINX_IMAGE": "nginx' image",
    "NGINX_EXPORTER_IMAGE": "the nginx exporter's image",
    "PROMETHEUS_IMAGE": "Prometheus' image",
    "GRAFANA_IMAGE": "Grafana's image",
    "VLLM_IMAGE": "vLLM's image; only ENGINE=vllm uses it",
    "CUDA_BUILD_IMAGE": "an image with nvcc; only FLASH_ATTN=build uses it",
    "TORCH_BUILD": "the build of PyTorch to install: cpu, cu126 or cuda; empty: chosen by NVIDIA's driver",
    "TORCH_CPU_INDEX": "the index that is asked first for CPU builds of PyTorch; empty: only pip's own",
    "TORCH_CUDA_INDEX": "the index with CUDA 12.6 builds of PyTorch, for drivers below 580",
    "FLASH_ATTN_WHEELS": "a folder or address with wheels of flash-attn; empty: the project's releases",
    "FLASH_ATTN_CUDA_ARCHS": "GPU types that FLASH_ATTN=build compiles for, as in 80;90; empty: this machine's",
}
"""For the Makefile, compose.yaml and the native supervisor. The app does not read them."""


class SettingsError(Exception):
    """The configuration is wrong; the message says which variable and what is allowed."""


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


MOST_LOCAL_SEQUENCES = 512
"""Requests that a local engine runs at once."""

LEAST_KV_TOKENS = 32
"""A page of the KV cache."""

REQUESTS_PER_UPSTREAM = 256
"""With each server of ENGINE_URL at once, where MAX_SEQUENCES is 0: vLLM's own default."""


class EngineKind(StrEnum):
    LOCAL = "local"
    REMOTE = "remote"


def _listed(value: Any) -> Any:
    return tuple(filter(None, (item.strip() for item in value.split(",")))) if isinstance(value, str) else value


Name = Annotated[str, Field(max_length=256, pattern=r"^[!-~]([ -~]*[!-~])?$")]
Names = Annotated[tuple[Name, ...] | None, NoDecode, BeforeValidator(_listed)]
"""Names of printable ASCII, separated by commas."""


Origin = Annotated[str, Field(pattern=r"^(\*|null|[a-z][a-z0-9+.-]*://[A-Za-z0-9._:\[\]-]+)$")]
Address = Annotated[str, Field(pattern=r"^https?://[^\s/]+(/\S*)?$")]
Addresses = Annotated[tuple[Address, ...] | None, NoDecode, BeforeValidator(_listed)]
Origins = Annotated[tuple[Origin, ...] | None, NoDecode, BeforeValidator(_listed)]


class Settings(BaseSettings):
    """Every field's name in upper case is its environment variable."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, case_sensitive=False)

    model: str = Field(
        "auto",
        description="auto, a name of the catalogue, or a folder with a model's files; with ENGINE=remote auto or a "
        "name that the servers list",
    )
    engine: EngineKind = Field(
        EngineKind.LOCAL,
        description="what computes answers: local (a model in this process) or remote (the servers of ENGINE_URL); "
        "`make up` with containers also knows vllm (on all GPUs, with this app in front)",
    )
    engine_url: Addresses = Field(
        None,
        description="for ENGINE=remote: addresses of servers with OpenAI's API, as http://HOST:PORT/v1, separated by "
        "commas",
    )
    engine_api_key: SecretStr | None = Field(None, description="the API key that these servers want")
    served_names: Names = Field(
        None, description="more names that requests may call the model by, separated by commas"
    )
    models_dir: Path = Field(Path("var/models"), description="the folder of fetched models")
    dtype: DType = Field(
        DType.AUTO, description="the number type that the model computes in; auto: chosen for the device"
    )
    compile: Compile = Field(
        Compile.OFF,
        description="off, or on GPUs layers: torch.compile for the parts of each layer around its attention",
    )
    flash_attn: FlashAttn = Field(
        FlashAttn.AUTO,
        description="the library flash-attn, on GPUs: auto (if a wheel fits), build (compile it, for an hour), off",
    )
    cache_dir: Path = Field(
        Path("var/cache"),
        description="folder for code compiled at run time on GPUs; writable, and not mounted noexec",
    )
    gpu_reserve: float = Field(
        2.0, ge=0, le=64, description="GiB per GPU that weights and KV cache leave free for activations"
    )
    max_sequences: int = Field(
        0,
        ge=0,
        le=10_000,
        description="most requests that run at once, up to 512, with ENGINE=remote 10000; 0: by the GPUs' KV cache, "
        "without a GPU 32, with ENGINE=remote 256 for each server",
    )
    kv_tokens: int = Field(
        0,
        ge=0,
        le=100_000_000,
        description="size of the KV cache in tokens; 0: all that fits the GPUs; without a GPU up to 24576",
    )
    prefill_chunk: int = Field(
        0,
        ge=0,
        le=65_536,
        description="most prompt tokens computed in one step beside running answers; 0: 512 on GPUs, 128 without",
    )
    share_prefixes: bool = Field(False, description="reuse cached prompts between different API keys")
    cleanup: Cleanup = Field(
        Cleanup.IDLE,
        description="when unused memory is freed: idle (nothing runs), request (after each answer), off",
    )
    startup_deadline: float = Field(
        1800, gt=0, le=86_400, description="seconds that the model may take to load before the process ends"
    )
    stall_deadline: float = Field(
        120, gt=0, le=3600, description="seconds that one step may take before the process ends"
    )
    max_waiting: int = Field(128, ge=0, le=100_000, description="requests that may wait; more get a 429")
    max_wait: float = Field(
        60, ge=0, le=86_400, description="seconds that an answer may be expected to wait for its turn; more get a 429"
    )
    request_timeout: float = Field(
        600, gt=0, le=86_400, description="seconds that a request may take before it ends with an error"
    )
    max_body_bytes: int = Field(2_097_152, ge=1024, le=1_073_741_824, description="largest request body")
    drain_seconds: int = Field(30, ge=0, le=3600, description="seconds that running answers have left after SIGTERM")
    http_host: str = Field(
        "127.0.0.1",
        description="the IP address that nginx listens on; outside loopback set one of the next two as well",
    )
    api_keys_file: Path | None = Field(
        None, description="file with a key on each line, by hash or plainly; if set, every request needs a key"
    )
    allow_anonymous: bool = Field(
        False, description="yes: serve without API keys on an address that others can reach"
    )
    cors_origins: Origins = Field(
        None,
        description="web pages of other origins that may use this server: SCHEME://HOST[:PORT], separated by commas; "
        "*: all",
    )
    app_host: str = Field("127.0.0.1", description="the address that gunicorn listens on, behind nginx")
    app_port: int = Field(8000, ge=1, le=65_535, description="the port that gunicorn listens on, behind nginx")
    log_level: LogLevel = Field(LogLevel.INFO, description="debug, info, warning or error")
    log_content: LogContent = Field(
        LogContent.FULL, description="prompts and answers in the log: full, masked, hash, redacted or off"
    )
    log_content_limit: int = Field(
        20_000, ge=0, le=10_000_000, description="most characters of a prompt or answer in the log"
    )
    log_folder: Path = Field(
        Path("/"),
        description="a folder on the disk that keeps the log: its free room is a metric, and without room lines "
        "count as lost. `make up` sets it",
    )
    log_hash_key: SecretStr | None = Field(
        None,
        min_length=16,
        description="the secret of LOG_CONTENT=hash; the same text has the same hash as long as it stays the same. "
        "Unset: a new one at each start",
    )
    otel_exporter_otlp_endpoint: Address | None = Field(
        None, description="an OpenTelemetry collector that gets traces by OTLP over HTTP, as http://HOST:4318"
    )
    otel_exporter_otlp_headers: str | None = Field(
        None, description="what the collector wants to be told, as NAME=VALUE,NAME=VALUE"
    )

    @property
    def upstreams(self) -> tuple[str, ...]:
        """The addresses of ENGINE_URL, each once."""
        return tuple(dict.fromkeys(address.rstrip("/") for address in self.engine_url or ()))

    @property
    def upstream_requests(self) -> int:
        """The most that are with all of them at once."""
        return self.max_sequences or REQUESTS_PER_UPSTREAM * len(self.upstreams)

    @model_validator(mode="after")
    def _remote_has_servers(self) -> Self:
        if (self.engine is EngineKind.REMOTE) == bool(self.engine_url):
            return self
        if self.engine_url:
            raise ValueError("ENGINE_URL is set, but ENGINE is local: set ENGINE=remote, or unset ENGINE_URL")
        raise ValueError("ENGINE=remote needs ENGINE_URL, as http://HOST:PORT/v1")

    @model_validator(mode="after")
    def _local_runs_few(self) -> Self:
        if self.engine is EngineKind.REMOTE or self.max_sequences <= MOST_LOCAL_SEQUENCES:
            return self
        raise ValueError(f"MAX_SEQUENCES={self.max_sequences}: at most {MOST_LOCAL_SEQUENCES}, unless ENGINE=remote")

    @model_validator(mode="after")
    def _kv_cache_has_a_page(self) -> Self:
        if self.kv_tokens == 0 or self.kv_tokens >= LEAST_KV_TOKENS:
            return self
        raise ValueError(f"KV_TOKENS={self.kv_tokens}: at least {LEAST_KV_TOKENS}, or 0 for what fits")

    @model_validator(mode="after")
    def _open_only_on_purpose(self) -> Self:
        if ip_address(self.http_host).is_loopback or self.api_keys_file is not None or self.allow_anonymous:
            return self
        raise ValueError(
            f"HTTP_HOST={self.http_host} is open to other machines: set API_KEYS_FILE, or ALLOW_ANONYMOUS=yes"
        )


def load_settings(env_file: Path | None = Path(".env")) -> Settings:
    """The settings of this process. Raises SettingsError."""
    file = env_file if env_file is not None and env_file.is_file() else None
    if file is not None:
        _refuse_unknown_names(file)
    try:
        return Settings(_env_file=file)
    except ValidationError as error:
        raise SettingsError("\n".join(_say(item) for item in error.errors())) from None


def _refuse_unknown_names(file: Path) -> None:
    known = {name.upper() for name in Settings.model_fields} | set(STACK_VARIABLES)
    unknown = sorted(name for name in dotenv_values(file) if name.upper() not in known)
    if unknown:
        raise SettingsError(f"{file}: unknown {', '.join(unknown)}. Known are: {', '.join(sorted(known))}.")


def _say(item: Any) -> str:
    if not item["loc"]:  # a rule about several variables: its message names them
        return f"{item['msg'].removeprefix('Value error, ')}."
    return f"{str(item['loc'][0]).upper()}={item['input']!r}: {item['msg']}."
