"""The command `adsum`: the service, its tokens, and a person's view of who is online.

Exit codes: 0 done, 1 failed, 2 used or configured wrongly, 130 interrupted.
"""

import os

# gRPC's core, which reads this when it is imported, writes lines of its own to stderr
# about what it raises as errors anyway.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from adsum.cli.command import main

__all__ = ["main"]
