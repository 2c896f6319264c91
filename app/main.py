"""Wires the packages together. No other module knows all of them."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from app.api.anthropic.routes import messages_router
from app.api.classic.routes import classic_router
from app.api.error_forms import error_body
from app.api.fim.routes import fim_router
from app.api.http.cors import cors
from app.api.http.middleware.body_limit import BodyLimit
from app.api.http.middleware.caller import FromHeaders
from app.api.http.middleware.errors import Errors, raise_to_middleware
from app.api.http.middleware.keys import Keys
from app.api.http.middleware.request_id import RequestId
from app.api.http.middleware.unreadable import Unreadable
from app.api.infill.routes import infill_router
from app.api.openai.chat import chat_router
from app.api.openai.completions import completions_router
from app.api.openai.models import models_router
from app.api.openai.tokenization import tokenization_router
from app.api.openapi.routes import OPENAPI, openapi_router
from app.api.playground.files import load_page
from app.api.playground.routes import playground_router, public_paths
from app.api.probes import PUBLIC_PATHS, Render, probes_router
from app.api.responses.routes import responses_router
from app.contract.engine import Capacity, Engine, EngineStatus, ModelInfo, Runs
from app.contract.telemetry import Observers
from app.contract.terms import TermsOf
from app.keys.book import KeyBook
from app.lifecycle import EXIT_CODE, Lifecycle
from app.serving.protocol import Service
from app.serving.tokenizing import Tokenizing
from app.settings import EngineKind, Settings, SettingsError, load_settings
from app.work_pool import WorkPool

if TYPE_CHECKING:
    from app.serving.prompt.prompts import Prompts

_log = logging.getLogger(__name__)


def _nothing() -> None:
    pass


def create_app(
    settings: Settings,
    engine: Engine,
    prompts: "Prompts",
    observers: Observers,
    render_metrics: Render | None = None,
    *,
    close: Callable[[], None] = _nothing,
) -> FastAPI:
    """The application on top of the given engine. `close` is called when it has shut down.

    Raises SettingsError for an unusable API_KEYS_FILE.
    """
    keys = KeyBook(settings.api_keys_file, observers)
    parts = _over_engine(settings, engine, prompts, observers, keys.terms)
    return assemble(settings, keys, parts, observers, render_metrics, close=close)


@dataclass(frozen=True, slots=True)
class Parts:
    """What answers: something that starts and stops with the process, and what the routes ask."""

    runs: Runs
    service: Service
    tokenization: Tokenizing


def assemble(
    settings: Settings,
    keys: KeyBook,
    parts: Parts,
    observers: Observers,
    render_metrics: Render | None,
    *,
    close: Callable[[], None],
) -> FastAPI:
    """The application on top of what answers."""
    service, tokenization = parts.service, parts.tokenization
    lifecycle = Lifecycle(parts.runs, observers, settings)
    page = load_page()
    public = PUBLIC_PATHS | public_paths(page) | {OPENAPI}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        await lifecycle.start()  # returns at once; until the model is loaded, requests get a 503
        yield
        await lifecycle.shut_down()
        close()

    app = FastAPI(
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        middleware=[
            Middleware(RequestId),
            Middleware(FromHeaders, traced=settings.otel_exporter_otlp_endpoint is not None),
            *cors(settings.cors_origins or ()),
            Middleware(Errors, observers=observers, error_body=error_body),
            Middleware(Unreadable),
            Middleware(Keys, keys=keys, public_paths=public),
            Middleware(BodyLimit, max_bytes=settings.max_body_bytes),
        ],
        exception_handlers={HTTPException: raise_to_middleware, RequestValidationError: raise_to_middleware},
    )
    app.state.body_threads = WorkPool("bodies", threads=2)
    app.include_router(classic_router(service))
    app.include_router(chat_router(service))
    app.include_router(completions_router(service))
    app.include_router(responses_router(service))
    app.include_router(infill_router(service))
    app.include_router(fim_router(service))
    app.include_router(messages_router(service, tokenization))
    app.include_router(models_router(service))
    app.include_router(tokenization_router(service, tokenization))
    app.include_router(openapi_router(service))
    app.include_router(probes_router(service, render_metrics))
    app.include_router(playground_router(page))
    return app


@dataclass(frozen=True, slots=True)
class Built:
    """The app, and what a process that is no gunicorn worker needs beside it."""

    app: FastAPI
    status: Callable[[], EngineStatus]
    render_metrics: Render


def build() -> FastAPI:
    """The app with the engine of the settings, for gunicorn: `app.main:build()`."""
    return _build(_of_settings)


def build_scripted() -> FastAPI:
    """The app over the scripted engine, to measure everything in front of an engine: `app.main:build_scripted()`."""
    return _build(_scripted)


MakeParts = Callable[[Settings, Observers, TermsOf], Parts]


def build_replica(settings: Settings, name: str) -> Built:
    """The app with the engine of the settings, as one replica of several; each line of its log has the name.

    Raises SettingsError, ModelError.
    """
    return _built(settings, _of_settings, replica=name)


def _build(make_parts: MakeParts) -> FastAPI:
    """Ends the process, with the reason in the log, when it cannot start."""
    from app.models.errors import ModelError

    try:
        return _built(load_settings(), make_parts).app
    except (SettingsError, ModelError) as error:
        _log.critical("cannot start: %s", error)
        raise SystemExit(EXIT_CODE) from None


def _built(settings: Settings, make_parts: MakeParts, replica: str | None = None) -> Built:
    # Imported here and below, because the tests need none of it, or because not every engine does.
    from prometheus_client import CollectorRegistry

    from app.observability.log.log_output import LogOutputCollector
    from app.observability.log.logging import configure_logging
    from app.observability.log.request_log import LogObserver
    from app.observability.metrics.gpu_watch import GpuWatch
    from app.observability.metrics.observer import Metrics
    from app.observability.tracing import to_collector

    registry = CollectorRegistry()
    registry.register(LogOutputCollector(configure_logging(settings, replica=replica)))
    metrics = Metrics(registry)
    GpuWatch(registry).start()
    traces = to_collector(settings)
    observers = Observers([LogObserver(settings), metrics, *([] if traces is None else [traces])])
    keys = KeyBook(settings.api_keys_file, observers)
    parts = make_parts(settings, observers, keys.terms)
    close = _nothing if traces is None else traces.close
    app = assemble(settings, keys, parts, observers, metrics.render, close=close)
    return Built(app, parts.service.status, metrics.render)


def _over_engine(
    settings: Settings, engine: Engine, prompts: "Prompts", observers: Observers, terms_of: TermsOf
) -> Parts:
    from app.serving.prompt.tokenization import Tokenization
    from app.serving.service import GenerationService

    service = GenerationService(engine, prompts, observers, settings, terms_of)
    return Parts(engine, service, Tokenization(prompts))


def _prompts(folder: Path, model: ModelInfo) -> "Prompts":
    """Raises ModelError where the folder's tokenizer cannot be used."""
    from app.models.errors import ModelError
    from app.serving.prompt.prompts import Prompts
    from app.serving.prompt.tokenizer import TokenizerUnusable

    try:
        return Prompts(folder, model)
    except TokenizerUnusable as error:
        raise ModelError(str(error)) from None


def _of_settings(settings: Settings, observers: Observers, terms_of: TermsOf) -> Parts:
    make = _remote if settings.engine is EngineKind.REMOTE else _local
    return make(settings, observers, terms_of)


def _remote(settings: Settings, observers: Observers, terms_of: TermsOf) -> Parts:
    from app.remote.service import RemoteService
    from app.remote.tokenization import NoTokenizer

    service = RemoteService(observers, settings, terms_of)
    return Parts(service, service, NoTokenizer())


def _local(settings: Settings, observers: Observers, terms_of: TermsOf) -> Parts:
    from app.local_engine import local_engine
    from app.models.selection import select_model

    selection = select_model(settings)
    _log.info("serving %s: %s", selection.name, selection.reason)
    engine = local_engine(settings, selection, observers)
    return _over_engine(settings, engine, _prompts(selection.folder, engine.model), observers, terms_of)


def _scripted(settings: Settings, observers: Observers, terms_of: TermsOf) -> Parts:
    """Random tokens, as text through the embedded model's tokenizer."""
    from app.engine.grammars.compiler import Grammars
    from app.engine.scripted import SCRIPTED_MODEL, ScriptedEngine
    from app.local_engine import CPU_SEQUENCES
    from app.models.catalogue import EMBEDDED

    sequences = settings.max_sequences or CPU_SEQUENCES
    capacity = Capacity(sequences, sequences * SCRIPTED_MODEL.context_tokens)
    folder = settings.models_dir / EMBEDDED.name
    engine = ScriptedEngine(capacity=capacity, grammars=Grammars(folder, SCRIPTED_MODEL))
    return _over_engine(settings, engine, _prompts(folder, engine.model), observers, terms_of)
