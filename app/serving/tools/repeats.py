"""Recognises a call that repeats an earlier one of its answer, while it is being written."""


class Repeats:
    """The calls of one answer, as text: the grammar writes the same arguments in the same way, but for their order.

    Takes time in proportion to the text.
    """

    def __init__(self) -> None:
        self._ended: list[str] = []
        self._parts: list[str] = []  # of the call that is being written
        self._length = 0  # of them together
        self._alike: list[str] = []  # ended calls that begin with them

    @property
    def ended(self) -> int:
        return len(self._ended)

    @property
    def possible(self) -> bool:
        """Whether the call so far is the beginning, or the whole, of an earlier one."""
        return bool(self._alike)

    def begin(self, name: str) -> None:
        """A call of this function begins. Names have no spaces."""
        self._parts, self._length, self._alike = [], 0, self._ended
        self.add(f"{name} ")

    def add(self, text: str) -> None:
        self._alike = [call for call in self._alike if call.startswith(text, self._length)]
        self._parts.append(text)
        self._length += len(text)

    def end(self) -> None:
        """The call is whole, and differs from the earlier ones."""
        self._ended.append("".join(self._parts))
