"""Whether a server gets requests, by how it answered the last ones (a circuit breaker)."""

from app.contract.telemetry import UpstreamState

MOST_FAILURES = 3
"""In a row, after which a server gets no more requests."""


class Circuit:
    """Down until it is found to be well. Then it is on trial: its next answer decides."""

    def __init__(self) -> None:
        self.state: UpstreamState = "down"  # until it has said what it serves
        self.failures = 0  # since the start
        self._in_a_row = 0

    def failed(self, *, surely: bool) -> None:
        """It did not answer; `surely`: and it will not for now, since nothing listens or it says so."""
        self.failures += 1
        self._in_a_row += 1
        if surely or self._in_a_row >= MOST_FAILURES:
            self.state = "down"

    def found_well(self) -> None:
        """It answered the question whether it is well."""
        if self.state == "down":
            self.state = "trial" if self.failures else "up"
            self._in_a_row = MOST_FAILURES - 1 if self.failures else 0

    def began(self) -> None:
        """It began to answer a request."""
        if self.state == "trial":
            self.state = "up"

    def answered(self) -> None:
        """A request has its whole answer."""
        self._in_a_row = 0
