"""The content of conversations in the log, as LOG_CONTENT and the API key say."""

import hashlib
import hmac
import secrets
from collections.abc import Callable

from app.contract.options import LogContent, least_content
from app.contract.requests import GenerationRequest, Message
from app.contract.telemetry import RequestEnded
from app.observability.log.masking import masked
from app.observability.log.plain import Plain, shorten, shorten_as
from app.settings import Settings

_HASH_DIGITS = 16
_BEHIND = 8_192  # characters: more than a key or a token has
_Render = Callable[[str, int], str]


class ContentFields:
    """The fields of a request's log line with content: what users wrote and what the model answered.

    `prompt` is the last user turn, `messages` are the other turns. LOG_CONTENT_LIMIT limits the characters of the
    prompt, of the answer, and of all other turns together.
    """

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.log_content_limit
        self._mode = settings.log_content
        given = settings.log_hash_key
        self._key = secrets.token_bytes() if given is None else given.get_secret_value().encode()

    def of(self, event: RequestEnded, request: GenerationRequest) -> dict[str, Plain]:
        render = self._renderer(request)
        if render is None:
            return {}
        prompt, others, index = _asked(request)
        fields: dict[str, Plain] = {"prompt": render(prompt, self._limit)}
        if index < len(others):
            fields["prompt_index"] = index
        if others:
            fields["messages"] = self._turns(others, render)
        if not event.choices:
            fields["response"] = render(event.response, self._limit)
        if request.stop:
            fields["stop"] = [render(text, self._limit) for text in request.stop]
        if event.finished is not None and event.finished.stop is not None:
            fields["stop_string"] = render(event.finished.stop, self._limit)
        return fields

    def shows_text(self, of_key: LogContent | None) -> bool:
        """Whether what users write is in the log as text."""
        return least_content(self._mode, of_key) in (LogContent.FULL, LogContent.MASKED)

    def choices(self, event: RequestEnded) -> list[dict[str, Plain]]:
        """The content of each choice; all choices together have the limit of one answer."""
        rendered: list[dict[str, Plain]] = []
        left = self._limit
        for choice in event.choices:
            fields: dict[str, Plain] = {}
            render = self._renderer(choice.request)
            if render is not None:
                # Of a list of prompts the first one is in a field of the line itself.
                if choice.request.prompt != event.choices[0].request.prompt:
                    prompt = _asked(choice.request)[0]
                    fields["prompt"] = render(prompt, left)
                    left -= min(left, len(prompt))
                fields["response"] = render(choice.response, left)
                left -= min(left, len(choice.response))
            rendered.append(fields)
        return rendered

    def _renderer(self, request: GenerationRequest) -> _Render | None:
        """None: no content at all."""
        match least_content(self._mode, request.terms.log_content):
            case LogContent.FULL:
                return shorten
            case LogContent.MASKED:
                return _masked
            case LogContent.HASH:
                return self._digest
            case LogContent.REDACTED:
                return _length
        return None

    def _digest(self, text: str, _limit: int) -> str:
        """For finding repetitions. Without the key nobody can hash a guess to compare it."""
        digest = hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return f"hmac:{digest[:_HASH_DIGITS]} {_length(text, _limit)}"

    def _turns(self, turns: list[Message], render: _Render) -> list[Plain]:
        """When the limit is too small for all turns, the newest keep their text."""
        left = self._limit
        rendered: list[Plain] = []
        for turn in reversed(turns):
            said = _said(turn)
            rendered.append({"role": turn.role, "content": render(said, left)})
            left -= min(left, len(said))
        return rendered[::-1]


def _said(turn: Message) -> str:
    """The text of a turn and its tool calls."""
    calls = [f"{call.name}({call.arguments})" for call in turn.tool_calls]
    return "\n".join([turn.content, *calls] if turn.content else calls)


def _asked(request: GenerationRequest) -> tuple[str, list[Message], int]:
    """The last user turn (or the raw prompt), the other turns, and where among them it was."""
    if isinstance(request.prompt, str):
        return request.prompt, [], 0
    if request.prompt is not None:
        return " ".join(map(str, request.prompt)), [], 0
    turns = list(request.messages)
    for index in reversed(range(len(turns))):
        if turns[index].role == "user":
            return turns.pop(index).content, turns, index
    return "", turns, len(turns)


def _masked(text: str, limit: int) -> str:
    """A secret at the limit is seen whole; what is far behind it costs nothing and is not shown."""
    if limit <= 0:  # of a long history all but the last turns
        return shorten(text, limit)
    seen = text[: limit + _BEHIND]
    shown = masked(seen)
    whole = len(seen) == len(text) and len(shown) <= limit
    return shown if whole else shorten_as(shown[:limit], len(text) - min(limit, len(text)))


def _length(text: str, _limit: int) -> str:
    return f"[{len(text)} characters]"
