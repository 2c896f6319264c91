"""The schema of a request's log line, as it is shipped with the documents."""

import json
from typing import Any

from jsonschema import Draft202012Validator

from stack.config import ROOT

SCHEMA = json.loads((ROOT / "docs" / "request-line.schema.json").read_text())
_validator = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)


def faults(line: dict[str, Any]) -> list[str]:
    """What is wrong with it; the value itself is not repeated."""
    return [f"{error.json_path}: {error.validator} {error.validator_value}" for error in _validator.iter_errors(line)]
