"""What every service refuses in the same way, and how it tells the observers of it."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from app.contract.caller import current_caller
from app.contract.errors import ClientClosed, InvalidRequest, ServingError
from app.contract.requests import GenerationRequest
from app.contract.telemetry import Observers, RequestEnded


def refuse_too_many(requests: Sequence[GenerationRequest], most: int) -> None:
    """Raises InvalidRequest for a client's request that wants more answers than may be inside at once."""
    if len(requests) > most:
        field = "n" if requests[0].n > 1 else "prompt"
        who = "This API key allows" if most == requests[0].terms.requests else "This server accepts"
        raise InvalidRequest(f"{who} at most {most} answers at once.", param=field)


@contextmanager
def refusals_told(
    observers: Observers, request: GenerationRequest, model: str | None, arrived_at: float
) -> Iterator[None]:
    """Tells the observers of a request that is not answered because of what is raised within."""

    def tell(error: ServingError) -> None:
        observers.notify(
            RequestEnded(
                id=request.id,
                caller=current_caller(),
                request=request,
                model=model,
                status=error.status,
                error=error,
                duration=time.monotonic() - arrived_at,
            )
        )

    try:
        yield
    except ServingError as error:
        tell(error)
        raise
    except asyncio.CancelledError:
        tell(ClientClosed())
        raise
    except Exception:
        tell(ServingError())
        raise
