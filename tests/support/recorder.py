"""A listener that remembers how requests ended."""

import queue

from app.contract.requests import GenerationRequest
from app.contract.telemetry import Event, RequestEnded
from tests.support.patience import PATIENCE


class Recorder:
    """Ends can be awaited from any thread. `refused` never became a GenerationRequest; `others` are no ends."""

    def __init__(self) -> None:
        self.requests: queue.Queue[RequestEnded] = queue.Queue()
        self.refused: list[RequestEnded] = []
        self.others: list[Event] = []

    def notify(self, event: Event) -> None:
        if isinstance(event, RequestEnded):
            if event.request is None:
                self.refused.append(event)
            else:
                self.requests.put(event)
        else:
            self.others.append(event)

    def request(self) -> RequestEnded:
        """The next request that ended."""
        return self.requests.get(timeout=PATIENCE)

    def generation(self) -> GenerationRequest:
        """What the next request that ended asked for."""
        request = self.request().request
        assert request is not None
        return request
