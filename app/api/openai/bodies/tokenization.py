"""The bodies of `/tokenize` and `/detokenize`. The names are vLLM's."""

from typing import Annotated

from pydantic import Field

from app.api.openai.bodies.chat import ChatBody
from app.api.openai.bodies.model_field import ForModel

Token = Annotated[int, Field(ge=0, lt=2**31)]


class TextToTokens(ForModel):
    """A raw text, as `/v1/completions` takes it."""

    prompt: str
    add_special_tokens: bool = True  # what the model expects before any text, as a prompt of completions gets it
    return_token_strs: bool = False


class ConversationToTokens(ChatBody):
    """A chat request as it is: what says how to answer changes nothing here."""

    return_token_strs: bool = False


class TokensToText(ForModel):
    tokens: Annotated[list[Token], Field(max_length=1_000_000)]
