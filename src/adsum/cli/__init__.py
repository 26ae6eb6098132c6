"""The command `adsum`: the service, its tokens, and a person's view of who is online.

Exit codes: 0 done, 1 failed, 2 used or configured wrongly, 130 interrupted.
"""

import os
import sys
from typing import NoReturn

# gRPC's core, which reads this when it is imported, writes lines of its own to stderr
# about what it raises as errors anyway.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

__all__ = ["main"]


def main() -> NoReturn:
    """Run this process's command line and exit."""
    try:
        from adsum.cli import command  # noqa: PLC0415 -- Ctrl-C while it loads is no error either
    except KeyboardInterrupt:
        sys.exit(130)
    command.main()
