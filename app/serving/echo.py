"""The prompt before its answer, with the log-probabilities of its tokens."""

from app.contract.events import PromptEvent, TextEvent, TokenEvent


class Echo:
    """Of one answer. `text` is that of the prompt's `length` tokens, without the `leading` first ones."""

    def __init__(self, text: str, length: int, leading: int) -> None:
        self._text = text
        self._length = length
        self._leading = leading
        self._tokens: list[TokenEvent] = []

    @property
    def whole(self) -> bool:
        """Whether it came out."""
        return len(self._tokens) == self._length

    def push(self, event: PromptEvent) -> list[TextEvent]:
        """The whole prompt at its last token: only then is it known where its text would be cut."""
        self._tokens += event.tokens
        if not self.whole:
            return []
        leading, others = tuple(self._tokens[: self._leading]), tuple(self._tokens[self._leading :])
        return [*([TextEvent("", leading)] if leading else []), TextEvent(self._text, others)]
