"""What commands print: lines for people, or one JSON object a line for programs.

Invariant: every line is flushed at once, and a user ID cannot move the cursor or
colour the terminal.
"""

import json
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from unicodedata import combining, east_asian_width

import click

from adsum.domain.platforms import PlatformRegistry
from adsum.wire.protobuf import UserStatus

ONLINE_COLOUR = "green"
GAP = "  "


def say(text: str) -> None:
    """Print a line; colours are left out where they can't be shown or are not wanted (NO_COLOR)."""
    click.echo(text, color=False if os.environ.get("NO_COLOR") else None)


def say_json(**fields: object) -> None:
    """Print one JSON object."""
    click.echo(json.dumps(fields, ensure_ascii=False))


def note(text: str) -> None:
    """Tell the person something that is no output, on stderr."""
    click.echo(f"adsum: {text}", err=True)


def now_utc() -> str:
    """The time for programs: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now_local() -> str:
    """The time for people."""
    return click.style(datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3], dim=True)


def shown(user_id: str) -> str:
    """A user ID with anything but printable characters escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in user_id)


def width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def padded(text: str, columns: int) -> str:
    """A text with blanks after it, up to that many columns."""
    return text + " " * (columns - width(text))


class StatusPrinter:
    """Prints users' states, with platforms by name."""

    def __init__(self, platforms: PlatformRegistry) -> None:
        self._names = {platform.id: platform.name for platform in platforms}

    def names(self, status: UserStatus) -> list[str]:
        """The platforms a user is online on; an unknown one by its ID."""
        return [self._names.get(platform_id, str(platform_id)) for platform_id in status.platform_ids]

    def fields(self, status: UserStatus) -> dict[str, object]:
        """A state as JSON has it."""
        return {
            "userID": status.user_id,
            "status": "online" if status.platform_ids else "offline",
            "platformIDs": list(status.platform_ids),
            "platforms": self.names(status),
        }

    def row(self, status: UserStatus, user_columns: int) -> str:
        """A state as a row of a table whose first column is that wide."""
        word = click.style("online ", fg=ONLINE_COLOUR) if status.platform_ids else click.style("offline", dim=True)
        return GAP.join((padded(shown(status.user_id), user_columns), word, ", ".join(self.names(status)))).rstrip()

    def table(self, statuses: Sequence[UserStatus], *, heading: bool = True) -> None:
        """Print states as a table."""
        columns = user_columns(status.user_id for status in statuses)
        if heading:
            say(click.style(GAP.join((padded("USER", columns), "STATUS ", "PLATFORMS")), bold=True))
        for status in statuses:
            say(self.row(status, columns))


def user_columns(user_ids: Iterable[str]) -> int:
    """The width of a column of user IDs under the heading USER."""
    return max(width(shown(user_id)) for user_id in ("USER", *user_ids))
