"""Unknown names and values that are not allowed in `.env`, reported before an installation."""

from __future__ import annotations

from collections.abc import Iterator

from stack.config import ENV_FILE, install_settings, known_settings, read_env_file
from stack.doctor.finding import Finding, failed, passed

_ALLOWED = {"FLASH_ATTN": ("auto", "build", "off"), "TORCH_BUILD": ("cpu", "cu126", "cuda")}


def check_settings() -> Iterator[Finding]:
    """The app checks values at its start. Only this finds wrong names: compose passes on those that it knows."""
    written = read_env_file(ENV_FILE)
    known = set(known_settings())
    unknown = sorted(name for name in written if known and name not in known)
    if unknown:
        yield failed(
            "settings", f"{ENV_FILE} has unknown settings: {', '.join(unknown)}", ".env.example lists all settings"
        )
    made = install_settings(env_file=ENV_FILE)
    for name, allowed in _ALLOWED.items():
        value = made.get(name)
        if value and value not in allowed:
            yield failed("settings", f"{name}={value} is not allowed", f"Use one of {', '.join(allowed)}")
            unknown.append(name)
    if not unknown:
        yield passed(
            "settings",
            "every setting in .env is known" if written else "no .env: defaults, and the shell's environment",
        )
