"""`python -m bench [PART…]`: run the measurements and print one table a part."""

import asyncio
import os
import platform
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from bench import latency, redis_engine, writes

PARTS: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
    "latency": latency.main,
    "writes": writes.main,
    "redis": redis_engine.main,
}


def machine() -> str:
    """The machine the figures are from."""
    model = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), "unknown CPU")
    return (
        f"{os.cpu_count()} cores, {model}, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def main(names: list[str]) -> int:
    """Run the parts named, all if none is."""
    unknown = set(names) - set(PARTS)
    if unknown:
        print(f"bench: no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    print(f"machine: {machine()}")
    for name in names or PARTS:
        asyncio.run(PARTS[name]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
