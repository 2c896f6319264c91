"""Stop strings: an answer's text ends before the first of them."""


class StopStrings:
    """Lets text through up to the first stop string. Neither that string nor what follows it comes out.

    Text that may still become a stop string is held back, and no more than that.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self.reached = False
        self._stop = stop
        self._held = ""

    def push(self, piece: str, *, last: bool) -> str:
        """The text that this piece makes visible; with `last` nothing is held back."""
        text, self._held = self._held + piece, ""
        end = self._end_of(text)
        if end is not None:
            self.reached = True
            return text[:end]
        keep = 0 if last else held_back(text, self._stop)
        text, self._held = text[: len(text) - keep], text[len(text) - keep :]
        return text

    def _end_of(self, text: str) -> int | None:
        """Where the stop string begins that is complete first, however the text was cut into pieces."""
        found: list[tuple[int, int]] = []  # end and start of each stop string in the text
        for stop in self._stop:
            start = text.find(stop)
            if start >= 0:
                found.append((start + len(stop), start))
        return min(found)[1] if found else None


def held_back(text: str, strings: tuple[str, ...]) -> int:
    """The length of the longest end of `text` that is the beginning, but not the whole, of one of `strings`."""
    longest = max((len(string) for string in strings), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(string.startswith(text[-length:]) for string in strings):
            return length
    return 0
