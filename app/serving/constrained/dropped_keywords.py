"""Tells the operator what of tools' schemas is not enforced, once for each schema and not at each turn."""

import hashlib
import json
import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_log = logging.getLogger(__name__)

_MOST_SCHEMAS = 1000  # that are remembered
_MOST_PLACES = 20  # in one line


class DroppedKeywords:
    """Safe under threads; two that come at the same moment may both be told."""

    def __init__(self) -> None:
        self._tell_once = lru_cache(maxsize=_MOST_SCHEMAS)(_tell)

    def tell(self, tool: str, schema: Mapping[str, Any], places: tuple[str, ...]) -> None:
        """`places` are those of the keywords that are left out. Of the schema only names are written."""
        digest = hashlib.sha256(json.dumps(schema).encode()).digest()
        self._tell_once(tool, digest, places[:_MOST_PLACES], len(places))


def _tell(tool: str, _schema: bytes, places: tuple[str, ...], count: int) -> None:
    _log.info(
        "a tool's schema is enforced in part",
        extra={"tool": tool, "not_enforced": list(places), "not_enforced_count": count},
    )
