"""Programs that people use, each doing what its documentation begins with, against the real model."""

from tests.clients.conftest import RunProgram

COUNTED = "1. 1\n2. 2\n3. 3"


def test_openais_package(run_program: RunProgram) -> None:
    seen = run_program("openai_package.py")
    assert "return a + b" in seen["chat"]
    assert seen["response"] == seen["streamed"] == seen["chat"]
    assert set(seen["person"]) == {"name", "age"}
    name, arguments = seen["call"]
    assert (name, set(arguments)) == ("get_weather", {"town"})
    assert seen["after"]
    assert seen["tokens"] == 48


def test_anthropics_package(run_program: RunProgram) -> None:
    seen = run_program("anthropic_package.py")
    assert seen["streamed"] == seen["whole"] != ""
    assert seen["counted"] == seen["used"]
    name, arguments = seen["call"]
    assert (name, set(arguments), seen["stop"]) == ("get_weather", {"town"}, "tool_use")
    assert seen["after"] in ("end_turn", "max_tokens", "tool_use")
    assert seen["refused"] == "not_found_error"


def test_openais_agents(run_program: RunProgram) -> None:
    seen = run_program("openai_agents.py")
    assert len(seen["asked"]) == 1
    assert seen["items"] == ["tool_call_item", "tool_call_output_item", "message_output_item"]
    assert seen["final"]
    assert seen["streamed"]
    assert seen["deltas"] > 1
    assert seen["again"]
    assert set(seen["person"]) == {"name", "age"}


def test_langchain_over_responses(run_program: RunProgram) -> None:
    seen = run_program("langchain.py")
    assert seen["answer"].startswith(COUNTED)
    assert seen["streamed"] == seen["answer"]
    assert seen["pieces"] > 5
    assert seen["tokens"] > 5
    ((name, arguments),) = seen["calls"]
    assert (name, set(arguments)) == ("multiply", {"a", "b"})
    assert set(seen["person"]) == {"name", "age"}


def test_litellm(run_program: RunProgram) -> None:
    """It takes the provider from the model's name itself, and knows a prompt that is too long by the message."""
    seen = run_program("litellm_package.py")
    assert seen["whole"].startswith(COUNTED)
    assert seen["streamed"] == seen["response"] == seen["whole"]
    assert set(seen["call"]) == {"town"}
    assert seen["too_long"]


def test_autogen(run_program: RunProgram) -> None:
    """It sends a `name` with every turn."""
    seen = run_program("autogen.py")
    assert seen["answer"]
    assert seen["again"]
    assert seen["kinds"][-1] in ("TextMessage", "ToolCallSummaryMessage")


def test_llama_index(run_program: RunProgram) -> None:
    seen = run_program("llama_index_package.py", "llama-index")
    assert seen["completion"].startswith(COUNTED)
    assert seen["streamed"] == seen["chat"] != ""
    assert seen["pieces"] > 1


def test_openais_package_for_node(run_program: RunProgram) -> None:
    seen = run_program("openai.mjs")
    assert seen["whole"].startswith(COUNTED)
    assert seen["streamed"] == seen["whole"]
    assert (seen["first"], seen["last"]) == ("response.created", "response.incomplete")


def test_anthropics_package_for_node(run_program: RunProgram) -> None:
    seen = run_program("anthropic.mjs")
    assert seen["whole"].startswith(COUNTED)
    assert seen["streamed"] == seen["final"] == seen["whole"]
    assert seen["counted"] == seen["used"]
    name, arguments = seen["call"]
    assert (name, set(arguments), seen["stop"]) == ("get_weather", {"town"}, "tool_use")
    assert seen["after"] in ("end_turn", "max_tokens", "tool_use")
    assert seen["refused"] == "not_found_error"


def test_the_ai_sdk(run_program: RunProgram) -> None:
    """Over both of OpenAI's APIs."""
    by_api = run_program("ai-sdk.mjs")
    assert set(by_api) == {"responses", "chat"}
    for seen in by_api.values():
        assert seen["whole"].startswith(COUNTED)
        assert seen["streamed"] == seen["whole"]
        assert (seen["asked"], seen["steps"]) == (1, 2)
        assert set(seen["person"]) == {"name", "age"}
