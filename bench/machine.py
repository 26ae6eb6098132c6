"""The machine: what it is, how busy, and which process gets which of its cores."""

import os
import platform
import resource
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adsum import __version__
from adsum.wire import gob
from bench import waking

BUSY = 0.3
"""Load average (1 min) a core above which the machine is not free for measuring."""

MOST_OTHERS = 0.1
"""The share of the machine that other work may take while figures are not doubtful."""


def facts(go: str) -> dict[str, str]:
    """What figures depend on: the machine, and the versions of what takes part."""
    memory_kb = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?")
    redis = shutil.which("redis-server") or shutil.which("valkey-server")
    return {
        "cores": f"{len(cores())} ({model})",
        "memory": f"{memory_kb / 2**20:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "open files": str(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        "Python": _python(),
        "compiled": "yes" if is_compiled() else "no",
        "Adsum": _commit() or __version__,
        "Redis": _output(redis, "--version") if redis else "none",
        "load generator": go,
        "a byte to another process and back": _waking(),
    }


def is_compiled() -> bool:
    """Whether the service's hot modules are compiled ones here, and so in the processes started from here."""
    return str(gob.__file__).endswith(".so")


def _python() -> str:
    """Version, and how it was built as far as its build options tell: the service's CPU time depends on that."""
    options = " ".join(str(sysconfig.get_config_var(name)) for name in ("CONFIG_ARGS", "PY_CORE_CFLAGS"))
    profiled = "--enable-optimizations" in options or "-fprofile-use" in options
    linked = "--with-lto" in options or "-flto" in options
    builder = _distribution() if sys.base_prefix == "/usr" else "not the system's own"
    said = [
        f"{what}: {'yes' if is_so else 'not told'}"
        for what, is_so in (("profile-guided optimisation", profiled), ("LTO", linked))
    ]
    return f"{platform.python_version()}, {platform.python_compiler()}, {builder}; {', '.join(said)}"


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return "an unnamed distribution"


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of processes so far, user and system."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _waking() -> str:
    first, *others = cores()
    same = f"{waking.there_and_back_us(first, first):.0f} µs on one core"
    return f"{same}, {waking.there_and_back_us(first, others[0]):.0f} µs over two" if others else same


def load_average() -> float:
    """Over the last minute."""
    return os.getloadavg()[0]


def is_busy() -> bool:
    """Whether others use the machine."""
    return load_average() > BUSY * len(cores())


def others_cpu_s() -> float:
    """CPU seconds used so far by whatever is not this process and the processes it has started and seen end."""
    # The counted states but idle (3) and waiting for a disk (4); those of guests are in the first two already.
    spent = [int(ticks) for ticks in _lines("/proc/stat")[0].split()[1:9]]
    total = sum(spent) - spent[3] - spent[4]
    return total / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def cores() -> list[int]:
    """Those this process may use."""
    return sorted(os.sched_getaffinity(0))


def cores_of_service(own: int) -> list[int]:
    """So many, while there are as many."""
    return cores()[:own]


def cores_of_others(own: int) -> list[int]:
    """For the load generator and Redis: those the service has not, or all if it has all."""
    return cores()[own:] or cores()


@contextmanager
def pinned(to: list[int]) -> Iterator[None]:
    """Processes started within run on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_open_files() -> int:
    """Raise the limit for this process and those it starts as far as the system allows; the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="utf-8").split():
            found += family(int(child))
    return found


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _commit() -> str:
    """The version with the commit, and whether files differ from it; empty without git."""
    if shutil.which("git") is None:
        return ""
    root = str(Path(__file__).parent)
    commit = _output("git", "-C", root, "rev-parse", "--short=12", "HEAD")
    changed = _output("git", "-C", root, "status", "--porcelain", "--", "../src", "../requirements")
    return f"{__version__}, commit {commit}{' and uncommitted changes' if changed else ''}" if commit else ""
