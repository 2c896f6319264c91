"""API keys: a file with one `name:key` per line. The name is the tenant in logs and caches."""

import hmac
from collections.abc import Mapping
from pathlib import Path

from app.settings import SettingsError


def load_keys(file: Path | None) -> dict[str, str]:
    """Name to key; empty without a file. Blank lines and # lines are skipped. Raises SettingsError."""
    if file is None:
        return {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"API_KEYS_FILE={file} cannot be read: {error}.") from None
    keys: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, key = (part.strip() for part in line.partition(":"))
        if not (name and colon and key) or name in keys:
            raise SettingsError(
                f"API_KEYS_FILE={file}, line {number}: expected `name:key`, with a name that no earlier line has."
            )
        keys[name] = key
    if not keys:
        raise SettingsError(f"API_KEYS_FILE={file} contains no key, so nobody could use this server.")
    return keys


def tenant_of(key: str, keys: Mapping[str, str]) -> str | None:
    """The name of the key, None for an unknown one. Compares with every key, each in constant time."""
    found = None
    for name, known in keys.items():
        if hmac.compare_digest(key.encode("utf-8", "surrogatepass"), known.encode()):
            found = name
    return found
