"""Stop strings: an answer's text ends before the first of them."""


class StopStrings:
    """Lets text through up to the first stop string. Neither that string nor what follows it comes out.

    Text that may still become a stop string is held back, and no more than that.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self.reached: str | None = None  # the one that ended the text
        self._stop = stop
        self._held = ""

    def push(self, piece: str, *, last: bool) -> str:
        """The text that this piece makes visible; with `last` nothing is held back."""
        text, self._held = self._held + piece, ""
        first = self._first_in(text)
        if first is not None:
            start, self.reached = first
            return text[:start]
        keep = 0 if last else held_back(text, self._stop)
        text, self._held = text[: len(text) - keep], text[len(text) - keep :]
        return text

    def _first_in(self, text: str) -> tuple[int, str] | None:
        """Where the stop string begins that is complete first, however the text was cut into pieces; and itself."""
        found: list[tuple[int, int, str]] = []  # end and start of each stop string in the text
        for stop in self._stop:
            start = text.find(stop)
            if start >= 0:
                found.append((start + len(stop), start, stop))
        return min(found)[1:] if found else None


def held_back(text: str, strings: tuple[str, ...]) -> int:
    """The length of the longest end of `text` that is the beginning, but not the whole, of one of `strings`."""
    longest = max((len(string) for string in strings), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(string.startswith(text[-length:]) for string in strings):
            return length
    return 0
