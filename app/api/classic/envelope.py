"""The classic envelope: every answer and every error is a JSON object with `status` and `time`."""

from datetime import datetime
from typing import Any

from app.contract.errors import ServingError


def now() -> str:
    """Local time, as the old script wrote it."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")


def error_envelope(error: ServingError) -> dict[str, Any]:
    return {"status": error.status, "error": {"code": error.code, "message": error.message}, "time": now()}
