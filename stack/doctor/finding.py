"""What one check of the preflight says."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Level(enum.Enum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Finding:
    check: str
    level: Level
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        said = f"{self.text.rstrip('.')}. {self.remedy}".strip() if self.remedy else self.text
        return f"  {self.level.value:8} {self.check:12} {said}"


def passed(check: str, text: str) -> Finding:
    return Finding(check, Level.OK, text)


def warning(check: str, text: str, remedy: str = "") -> Finding:
    return Finding(check, Level.WARNING, text, remedy)


def failed(check: str, text: str, remedy: str) -> Finding:
    return Finding(check, Level.FAILED, text, remedy)
