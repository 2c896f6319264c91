"""The app behind nginx. `main.py` wires it."""

__version__ = "0.1.0"
"""The stack's: pyproject.toml has the same."""
