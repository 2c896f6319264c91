"""A listener that remembers how requests ended."""

import queue

from app.contract.telemetry import Event, RequestFinished, RequestRefused
from tests.support.patience import PATIENCE


class Recorder:
    """Its events can be awaited from any thread."""

    def __init__(self) -> None:
        self.requests: queue.Queue[RequestFinished] = queue.Queue()
        self.refused: list[RequestRefused] = []

    def notify(self, event: Event) -> None:
        if isinstance(event, RequestFinished):
            self.requests.put(event)
        elif isinstance(event, RequestRefused):
            self.refused.append(event)

    def request(self) -> RequestFinished:
        """The next request that ended."""
        return self.requests.get(timeout=PATIENCE)
