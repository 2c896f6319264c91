"""`python -m app`: what an operator runs by hand."""

import sys

from app.cli import main
from app.cluster.commands import add_commands
from app.cluster.errors import ClusterError

sys.exit(main(more=[add_commands], expected=(ClusterError,)))
