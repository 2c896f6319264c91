"""The bodies of `/tokenize` and `/detokenize`. The names are vLLM's."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from app.api.http.body_model import Items, whole_items
from app.api.openai.bodies.chat import ChatBody
from app.api.openai.bodies.model_field import ForModel

Token = Annotated[int, Field(ge=0, lt=2**31)]
_STRINGS = Field(False, description="Also return the ids' names in the vocabulary.")


class TextToTokens(ForModel):
    """A raw text, as `/v1/completions` takes it."""

    prompt: str = Field(description="A raw text. Control tokens in it are read as text, but for those for a gap.")
    add_special_tokens: bool = Field(
        True, description="Begin with the token that the model expects before any text, as a plain completion does."
    )
    return_token_strs: bool = _STRINGS


class ConversationToTokens(ChatBody):
    """A chat request. The fields that say how to answer have no effect here."""

    return_token_strs: bool = _STRINGS


class TokensToText(ForModel):
    tokens: Annotated[
        Items[Token],
        BeforeValidator(whole_items),
        Field(max_length=1_000_000, description="Ids of the model's vocabulary."),
    ]
