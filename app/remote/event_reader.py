"""Server-sent events, read from the bytes of a stream."""

MOST_BYTES = 8_388_608
"""Of one event. The log-probabilities of one token take kilobytes."""


class EventTooLong(Exception):
    """An event, or a line, has more than MOST_BYTES."""


class EventReader:
    """Bytes in, the data of each event out. Other fields and comments are left out.

    Lines end with a line feed alone or after a carriage return: JSON has other line ends in its strings.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def push(self, piece: bytes) -> list[bytes]:
        """The events that this piece completes. Raises EventTooLong."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        events = []
        for line in lines:
            whole = self._line(line.removesuffix(b"\r"))
            if whole is not None:
                events.append(whole)
        if len(self._rest) + self._size > MOST_BYTES:
            raise EventTooLong
        return events

    def flush(self) -> list[bytes]:
        """An event that the stream's end completes."""
        return self.push(b"\n\n")

    def _line(self, line: bytes) -> bytes | None:
        if not line:
            data, self._data, self._size = self._data, [], 0
            return b"\n".join(data) if data else None
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
            self._size += len(line)
        return None
