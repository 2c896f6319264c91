"""`/tokenize`, `/detokenize` and `/v1/chat/completions/render`. They generate nothing."""

from collections.abc import Sequence

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.http.disconnect import unless_client_leaves
from app.api.http.read_json import read_json
from app.api.openai.bodies.chat import ChatBody
from app.api.openai.bodies.tokenization import ConversationToTokens, TextToTokens, TokensToText
from app.api.openai.responses import DetokenizedText, RenderedPrompt, TokenizedText
from app.contract.requests import GenerationRequest
from app.serving.prompt.tokenization import Tokenization
from app.serving.service import GenerationService


def tokenization_router(service: GenerationService, tokenization: Tokenization) -> APIRouter:
    router = APIRouter()

    @router.post("/tokenize")
    async def tokenize(request: Request) -> Response:
        value = await read_json(request)
        body = (TextToTokens if value.get("messages") is None else ConversationToTokens).parse(value)
        ids = await unless_client_leaves(request, _ids(body, request))
        answer = TokenizedText(count=len(ids), max_model_len=service.context, tokens=list(ids))
        if body.return_token_strs:
            answer["token_strs"] = await unless_client_leaves(request, tokenization.names(request.state.tenant, ids))
        return _json(answer)

    @router.post("/v1/chat/completions/render")
    async def render(request: Request) -> Response:
        body = ChatBody.parse(await read_json(request))
        rendered = await unless_client_leaves(request, tokenization.of_conversation(_generation(body, request)))
        ids = list(rendered.tokens)
        return _json(RenderedPrompt(prompt=rendered.text, count=len(ids), max_model_len=service.context, tokens=ids))

    @router.post("/detokenize")
    async def detokenize(request: Request) -> Response:
        body = TokensToText.parse(await read_json(request))
        body.refuse_other_models(service.model)
        text = await unless_client_leaves(request, tokenization.text(request.state.tenant, body.tokens))
        return _json(DetokenizedText(prompt=text))

    async def _ids(body: ConversationToTokens | TextToTokens, request: Request) -> Sequence[int]:
        if isinstance(body, ConversationToTokens):
            return (await tokenization.of_conversation(_generation(body, request))).tokens
        body.refuse_other_models(service.model)
        return await tokenization.of_text(request.state.tenant, body.prompt, leading=body.add_special_tokens)

    def _generation(body: ChatBody, request: Request) -> GenerationRequest:
        """The request that the chat route would make."""
        return body.generation(request.state.request_id, request.state.tenant, service.model)

    return router


def _json(answer: TokenizedText | RenderedPrompt | DetokenizedText) -> Response:
    """orjson writes a hundred thousand ids in a millisecond, Python's own json in ten."""
    return Response(orjson.dumps(answer), media_type="application/json")
