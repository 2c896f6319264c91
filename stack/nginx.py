"""nginx's configuration: the values for its templates, and the rendering that its official image does itself."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from stack.config import ROOT, Config
from stack.install.packages import program
from stack.protocol import StackError

_TURNED_AWAY = " max_fails=1 fail_timeout=2s"
"""One that refused or did not connect gets its next request after this time, and not every one."""
_VARIABLE = re.compile(r"\$\{([A-Z_]+)\}")


def variables(config: Config, *, listen: str, internal: str, app: str) -> dict[str, str]:
    """The templates' variables. The three addresses are [IP:]PORT; what they mean is in the template."""
    return {
        "LISTEN_ADDRESS": listen,
        "INTERNAL_ADDRESS": internal,
        **_upstreams(config, app),
        "CORS_ORIGINS": config.cors_origins,
        "MAX_BODY_BYTES": str(config.max_body_bytes),
        "PROXY_READ_TIMEOUT": f"{int(config.request_timeout) + 30}s",
    }


def _upstreams(config: Config, app: str) -> dict[str, str]:
    """One app, whose bodies pass through, or several, for which they are kept."""
    addresses = [app, *config.upstreams]
    several = len(addresses) > 1
    return {
        "UPSTREAM_SERVERS": " ".join(f"server {each}{_TURNED_AWAY if several else ''};" for each in addresses),
        "UPSTREAM_METHOD": "hash $balance_key consistent;" if config.upstream_balance == "key" else "least_conn;",
        "BUFFER_BODIES": "on" if several else "off",
        "BODY_BUFFER": str(config.max_body_bytes) if several else "16k",
    }


def write(folder: Path, values: Mapping[str, str]) -> None:
    """Lay out FOLDER as nginx's prefix: `nginx -p FOLDER -c FOLDER/nginx.conf`."""
    (folder / "conf.d").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "nginx" / "nginx.conf", folder / "nginx.conf")
    shutil.copytree(ROOT / "nginx" / "snippets", folder / "snippets", dirs_exist_ok=True)
    for template in (ROOT / "nginx" / "templates").glob("*.template"):
        rendered = _VARIABLE.sub(lambda found: _value(values, found[1]), template.read_text(encoding="utf-8"))
        (folder / "conf.d" / template.stem).write_text(rendered, encoding="utf-8")


def _value(values: Mapping[str, str], name: str) -> str:
    if name not in values:
        raise StackError(f"nginx's template needs {name}, and nothing sets it.")
    return values[name]


def command(folder: Path) -> list[str]:
    """Run that prefix in the foreground."""
    return [program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
