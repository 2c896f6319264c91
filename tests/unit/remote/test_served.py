"""What a list of models says."""

import json
from typing import Any

import pytest

from app.remote.served import Served, served_by


def listed(*models: dict[str, Any]) -> bytes:
    return json.dumps({"object": "list", "data": models}).encode()


@pytest.mark.parametrize(
    ("models", "served"),
    [
        ([{"id": "a", "owned_by": "vllm", "max_model_len": 4096, "root": "a"}], Served("a", "vllm", 4096)),
        ([{"id": "a", "owned_by": "local"}, {"id": "b"}], Served("a", "local")),
        ([{"id": "a", "owned_by": "llamacpp", "meta": {"n_ctx": 2048}}], Served("a", "llamacpp", 2048)),
        ([{"id": "a", "owned_by": "llamacpp", "meta": {"n_ctx_train": 1, "n_ctx": None}}], Served("a", "llamacpp")),
        ([], None),
    ],
)
def test_the_first_model_is_served_where_none_is_wanted(models: list[dict[str, Any]], served: Served | None) -> None:
    assert served_by(listed(*models), None) == served


def test_the_wanted_model_is_found_by_its_name() -> None:
    models = listed({"id": "a"}, {"id": "Org/B"})
    assert served_by(models, "org/b") == Served("Org/B")
    assert served_by(models, "c") is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": [1]}', b"\xff"])
def test_what_is_no_list_serves_nothing(body: bytes) -> None:
    assert served_by(body, None) is None
