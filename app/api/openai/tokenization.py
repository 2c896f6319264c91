"""`/tokenize`, `/detokenize` and `/v1/chat/completions/render`. They generate nothing."""

from collections.abc import Sequence
from typing import Any

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
from app.serving.protocol import Service
from app.serving.tokenizing import Tokenizing


def tokenization_router(service: Service, tokenization: Tokenizing) -> APIRouter:
    router = APIRouter()

    @router.post("/tokenize")
    async def tokenize(request: Request) -> Response:
        def convert(value: dict[str, Any]) -> tuple[TextToTokens | GenerationRequest, bool]:
            if value.get("messages") is None:
                text = TextToTokens.parse(value)
                return text, text.return_token_strs
            conversation = ConversationToTokens.parse(value)
            return _generation(conversation, request), conversation.return_token_strs

        source, with_names = await read_json(request, convert)
        ids = await unless_client_leaves(request, _ids(source, request.state.tenant))
        answer = TokenizedText(count=len(ids), max_model_len=service.context, tokens=list(ids))
        if with_names:
            answer["token_strs"] = await unless_client_leaves(request, tokenization.names(request.state.tenant, ids))
        return _json(answer)

    @router.post("/v1/chat/completions/render")
    async def render(request: Request) -> Response:
        generation = await read_json(request, lambda value: _generation(ChatBody.parse(value), request))
        rendered = await unless_client_leaves(request, tokenization.of_conversation(generation))
        ids = list(rendered.tokens)
        return _json(RenderedPrompt(prompt=rendered.text, count=len(ids), max_model_len=service.context, tokens=ids))

    @router.post("/detokenize")
    async def detokenize(request: Request) -> Response:
        body = await read_json(request, TokensToText.parse)
        body.refuse_other_models(service.model)
        text = await unless_client_leaves(request, tokenization.text(request.state.tenant, body.tokens))
        return _json(DetokenizedText(prompt=text))

    async def _ids(source: TextToTokens | GenerationRequest, tenant: str) -> Sequence[int]:
        if isinstance(source, GenerationRequest):
            return (await tokenization.of_conversation(source)).tokens
        source.refuse_other_models(service.model)
        return await tokenization.of_text(tenant, source.prompt, leading=source.add_special_tokens)

    def _generation(body: ChatBody, request: Request) -> GenerationRequest:
        """The request that the chat route would make."""
        return body.generation(request.state.request_id, request.state.tenant, service.model)

    return router


def _json(answer: TokenizedText | RenderedPrompt | DetokenizedText) -> Response:
    """orjson writes a hundred thousand ids in a millisecond, Python's own json in ten."""
    return Response(orjson.dumps(answer), media_type="application/json")
