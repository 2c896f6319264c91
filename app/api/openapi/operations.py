"""The operations of the API: one for each method of each public path."""

from dataclasses import dataclass

from app.api.anthropic.body import MessagesBody
from app.api.anthropic.events import EVENTS as MESSAGE_EVENTS
from app.api.anthropic.objects import AnswerMessage, TokenCount
from app.api.classic.body import ClassicBody
from app.api.classic.responses import ClassicAnswer, ClassicDelta, ClassicError
from app.api.fim.body import FimBody
from app.api.http.body_model import Body
from app.api.infill.body import InfillBody
from app.api.infill.objects import InfillAnswer, InfillPiece
from app.api.openai.bodies.chat import ChatBody
from app.api.openai.bodies.completion import CompletionBody
from app.api.openai.bodies.tokenization import ConversationToTokens, TextToTokens, TokensToText
from app.api.openai.errors import OpenAIError
from app.api.openai.responses import (
    ChatCompletion,
    ChatCompletionChunk,
    DetokenizedText,
    Model,
    ModelList,
    RenderedPrompt,
    TextCompletion,
    TextCompletionChunk,
    TokenizedText,
)
from app.api.openapi.errors import ErrorForm
from app.api.probes import Alive, Ready, Startup, Unready
from app.api.responses.body import ResponseBody
from app.api.responses.events import EVENTS
from app.api.responses.objects import ResponseObject


@dataclass(frozen=True, slots=True, kw_only=True)
class PathOperation:
    id: str
    method: str
    path: str
    summary: str
    answer: type | None  # None: a page of HTML
    bodies: tuple[type[Body], ...] = ()  # one of these
    stream: tuple[type, ...] = ()  # the bodies of its events; empty: it has no stream
    done: bool = True  # a stream's last event is [DONE]
    errors: ErrorForm = ErrorForm.OPENAI
    public: bool = False  # needs no key
    refusal: type | None = None  # the body of a probe's 503


OPERATIONS = (
    PathOperation(
        id="chat",
        method="post",
        path="/v1/chat/completions",
        summary="Answer a conversation.",
        bodies=(ChatBody,),
        answer=ChatCompletion,
        stream=(ChatCompletionChunk, OpenAIError),
    ),
    PathOperation(
        id="completion",
        method="post",
        path="/v1/completions",
        summary="Continue a text, or fill a gap in one.",
        bodies=(CompletionBody,),
        answer=TextCompletion,
        stream=(TextCompletionChunk, OpenAIError),
    ),
    PathOperation(
        id="response",
        method="post",
        path="/v1/responses",
        summary="Answer a conversation, in OpenAI's newer form. Nothing is stored.",
        bodies=(ResponseBody,),
        answer=ResponseObject,
        stream=EVENTS,
        done=False,
    ),
    PathOperation(
        id="fim",
        method="post",
        path="/v1/fim/completions",
        summary="Fill a gap, in Mistral's form. With a suffix, not for models without tokens for it.",
        bodies=(FimBody,),
        answer=ChatCompletion,
        stream=(ChatCompletionChunk, OpenAIError),
    ),
    PathOperation(
        id="infill",
        method="post",
        path="/infill",
        summary="Fill a gap, in llama.cpp's form. Not for models without tokens for it.",
        bodies=(InfillBody,),
        answer=InfillAnswer,
        stream=(InfillPiece, InfillAnswer, OpenAIError),
        done=False,
    ),
    PathOperation(
        id="message",
        method="post",
        path="/v1/messages",
        summary="Answer a conversation, in Anthropic's form.",
        bodies=(MessagesBody,),
        answer=AnswerMessage,
        stream=MESSAGE_EVENTS,
        done=False,
        errors=ErrorForm.ANTHROPIC,
    ),
    PathOperation(
        id="count_tokens",
        method="post",
        path="/v1/messages/count_tokens",
        summary="The number of tokens of a request in Anthropic's form. Generates nothing.",
        bodies=(MessagesBody,),
        answer=TokenCount,
        errors=ErrorForm.ANTHROPIC,
    ),
    PathOperation(
        id="render",
        method="post",
        path="/v1/chat/completions/render",
        summary="The text that the chat template makes of a chat request, and its token ids. Generates nothing.",
        bodies=(ChatBody,),
        answer=RenderedPrompt,
    ),
    PathOperation(
        id="tokenize",
        method="post",
        path="/tokenize",
        summary="The token ids of a text or of a conversation.",
        bodies=(TextToTokens, ConversationToTokens),
        answer=TokenizedText,
    ),
    PathOperation(
        id="detokenize",
        method="post",
        path="/detokenize",
        summary="The text of token ids.",
        bodies=(TokensToText,),
        answer=DetokenizedText,
    ),
    PathOperation(
        id="models",
        method="get",
        path="/v1/models",
        summary="The served model, once for each of its names.",
        answer=ModelList,
    ),
    PathOperation(
        id="model",
        method="get",
        path="/v1/models/{name}",
        summary="The served model, by any of its names.",
        answer=Model,
    ),
    PathOperation(
        id="classic",
        method="post",
        path="/",
        summary="Answer a question: the contract of the script that this server replaces.",
        bodies=(ClassicBody,),
        answer=ClassicAnswer,
        stream=(ClassicDelta, ClassicAnswer, ClassicError),
        done=False,
        errors=ErrorForm.CLASSIC,
    ),
    PathOperation(
        id="page",
        method="get",
        path="/",
        summary="A page to try the model in a browser.",
        answer=None,
        errors=ErrorForm.CLASSIC,
        public=True,
    ),
    PathOperation(
        id="live",
        method="get",
        path="/livez",
        summary="Whether the process works. A full queue does not fail it.",
        answer=Alive,
        errors=ErrorForm.CLASSIC,
        public=True,
        refusal=Unready,
    ),
    PathOperation(
        id="ready",
        method="get",
        path="/readyz",
        summary="Whether requests are answered now.",
        answer=Ready,
        errors=ErrorForm.CLASSIC,
        public=True,
        refusal=Unready,
    ),
    PathOperation(
        id="health",
        method="get",
        path="/health",
        summary="The same as /readyz, where other servers' clients look.",
        answer=Ready,
        errors=ErrorForm.CLASSIC,
        public=True,
        refusal=Unready,
    ),
    PathOperation(
        id="started",
        method="get",
        path="/startupz",
        summary="The progress of the start. Once started, it stays 200.",
        answer=Startup,
        errors=ErrorForm.CLASSIC,
        public=True,
        refusal=Startup,
    ),
)
