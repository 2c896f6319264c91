"""docs/api.md names every field and every error."""

import re

import pytest
from pydantic import BaseModel

from app.api.anthropic.body import MessagesBody
from app.api.classic.body import ClassicBody
from app.api.fim.body import FimBody
from app.api.http.read_json import BODY_SECONDS
from app.api.http.sse import HEARTBEAT_SECONDS
from app.api.infill.body import InfillBody
from app.api.openai.bodies.chat import MOST_MESSAGES, MOST_TOOLS, ChatBody
from app.api.openai.bodies.completion import MOST_ANSWERS, CompletionBody
from app.api.openai.bodies.sampling_fields import LONGEST_STOP, MOST_BIASES, MOST_CHOICES, MOST_METADATA, MOST_STOPS
from app.api.openai.bodies.tokenization import TextToTokens, TokensToText
from app.api.openapi.errors import ErrorForm, error_codes
from app.api.openapi.operations import OPERATIONS
from app.api.responses.body import ResponseBody
from app.serving.tools.format import MOST_CALLS
from stack.config import ROOT

TEXT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """What stands below a heading, up to the next one of its depth."""
    found = re.search(rf"^(#+) {re.escape(title)}$(.*?)(?=^\1 |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[2]


def rows(text: str) -> set[str]:
    """The code spans of the first column of a section's tables."""
    first = re.findall(r"^\| ([^|]*)\|", text, re.MULTILINE)
    return {name for cell in first for name in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize(
    ("title", "body", "beside"),
    [
        ("`/v1/chat/completions`", ChatBody, set()),
        ("`/v1/completions`", CompletionBody, rows(section("`/v1/chat/completions`"))),
        ("`/v1/fim/completions`", FimBody, rows(section("`/v1/chat/completions`"))),
        ("`/infill`", InfillBody, rows(section("`/v1/chat/completions`"))),
        ("Tokens and models", TextToTokens, {"model"}),
        ("Tokens and models", TokensToText, {"model"}),
        ("`POST /`", ClassicBody, set()),
        ("`/v1/responses`", ResponseBody, set()),
        ("`/v1/messages`", MessagesBody, set()),
    ],
)
def test_every_field_has_a_row(title: str, body: type[BaseModel], beside: set[str]) -> None:
    assert set(body.model_fields) <= rows(section(title)) | beside


def test_no_row_is_about_a_field_that_does_not_exist() -> None:
    assert rows(section("`/v1/chat/completions`")) <= set(ChatBody.model_fields)
    assert rows(section("`/v1/completions`")) <= set(CompletionBody.model_fields)
    assert rows(section("`/v1/fim/completions`")) <= set(FimBody.model_fields)
    assert rows(section("`/infill`")) <= set(InfillBody.model_fields) | {"cache_prompt"}
    assert rows(section("`/v1/responses`")) <= set(ResponseBody.model_fields)
    assert rows(section("`/v1/messages`")) <= set(MessagesBody.model_fields)


def test_every_error_has_a_row() -> None:
    table = section("Errors")
    for form in ErrorForm:
        for status, codes in error_codes(form).items():
            for code in codes:
                assert re.search(rf"^\| [^|]*\b{status}\b[^|]*\|[^|]*`{code}`", table, re.MULTILINE), (status, code)


@pytest.mark.parametrize(
    "said",
    [
        f"At most {MOST_CHOICES} choices (`n`), and {MOST_ANSWERS} answers to all prompts",
        f"{MOST_STOPS} stop strings of {LONGEST_STOP} characters",
        f"{MOST_TOOLS} tools; {MOST_MESSAGES:,} turns; {MOST_BIASES} biases; {MOST_METADATA} labels",
        f"at most {MOST_CALLS} calls",
        f"the body took longer than {BODY_SECONDS:.0f} seconds",
        f"every {HEARTBEAT_SECONDS:.0f} seconds a comment line",
    ],
)
def test_the_limits_are_those_of_the_code(said: str) -> None:
    assert said in " ".join(TEXT.split())


def test_every_path_is_listed() -> None:
    overview = TEXT.partition("\n## ")[0]
    for operation in OPERATIONS:
        assert f"{operation.method.upper()} {operation.path}`" in overview or f"`{operation.path}`" in overview
