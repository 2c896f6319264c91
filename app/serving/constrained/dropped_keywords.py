"""Tells the operator what of tools' schemas is not enforced, once for each schema and not at each turn."""

import hashlib
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

_log = logging.getLogger(__name__)

_MOST_SCHEMAS = 1000  # that are remembered
_MOST_PLACES = 20  # in one line


class DroppedKeywords:
    """Safe under threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[bytes, None] = {}

    def tell(self, tool: str, schema: Mapping[str, Any], places: Sequence[str]) -> None:
        """`places` are those of the keywords that are left out. Of the schema only names are written."""
        if not self._is_new(json.dumps([tool, schema])):
            return
        _log.info(
            "a tool's schema is enforced in part",
            extra={"tool": tool, "not_enforced": list(places[:_MOST_PLACES]), "not_enforced_count": len(places)},
        )

    def _is_new(self, text: str) -> bool:
        digest = hashlib.sha256(text.encode()).digest()
        with self._lock:
            if digest in self._told:
                return False
            if len(self._told) >= _MOST_SCHEMAS:
                self._told.clear()
            self._told[digest] = None
        return True
