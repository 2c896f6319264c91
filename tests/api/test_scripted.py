"""The app that an operator starts without a model answers, and counts what it answers."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.main import build_scripted


def test_it_answers_and_is_measured(embedded_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS_DIR", str(embedded_model.parent))
    body = {"model": "scripted", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    with TestClient(build_scripted()) as client:
        answer = client.post("/v1/chat/completions", json=body).json()
        assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 8)
        exposition = client.get("/metrics").text
        assert "serving_requests_total" in exposition
        assert 'serving_log_lines_lost_total{reason="write_failed"} ' in exposition
        assert "serving_log_disk_free_bytes " in exposition


def test_without_the_tokenizer_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELS_DIR", str(tmp_path))
    with pytest.raises(SystemExit):
        build_scripted()
    assert "tokenizer.json" in "".join(capsys.readouterr())
