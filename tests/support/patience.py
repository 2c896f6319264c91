"""How long a test waits."""

PATIENCE = 60
"""Seconds until something that should come at once counts as missing. It costs nothing when all is well."""
