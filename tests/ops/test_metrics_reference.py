"""docs/metrics.md lists what the app exports."""

from tests.support.metrics_reference import DOCUMENT, document


def test_the_document_is_what_the_app_declares() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "make reference writes it anew"
