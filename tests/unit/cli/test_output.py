"""What commands print."""

import json

import click
import pytest

from adsum.cli.output import StatusPrinter, padded, say, shown, user_columns, width
from adsum.domain.platforms import parse_platforms
from adsum.wire.protobuf import UserStatus

PRINTER = StatusPrinter(parse_platforms(["openim"]))


def test_a_user_id_cannot_steer_the_terminal() -> None:
    assert shown("a\x1b[31m\nb\u202e") == "a\\x1b[31m\\nb\\u202e"
    assert shown("张三 é") == "张三 é"


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("张三", 4), ("e\N{COMBINING ACUTE ACCENT}", 1)])
def test_columns_are_those_of_the_terminal(text: str, columns: int) -> None:
    assert width(text) == columns
    assert width(padded(text, 9)) == 9


def test_the_table_lines_up(capsys: pytest.CaptureFixture[str]) -> None:
    PRINTER.table([UserStatus("alice", (1, 5)), UserStatus("张三李四", ()), UserStatus("x", (42,))])
    assert capsys.readouterr().out.splitlines() == [
        "USER      STATUS   PLATFORMS",
        "alice     online   IOS, Web",
        "张三李四  offline",
        "x         online   42",
    ]
    assert user_columns([]) == len("USER")


def test_the_fields_are_stable() -> None:
    fields = {"userID": "alice", "status": "online", "platformIDs": [1, 5], "platforms": ["IOS", "Web"]}
    assert json.loads(json.dumps(PRINTER.fields(UserStatus("alice", (1, 5))))) == fields
    assert PRINTER.fields(UserStatus("bob", ()))["status"] == "offline"


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[bool | None] = []
    monkeypatch.setattr(click, "echo", lambda _text, color: chosen.append(color))
    monkeypatch.delenv("NO_COLOR", raising=False)
    say("x")
    monkeypatch.setenv("NO_COLOR", "1")
    say("x")
    assert chosen == [None, False]
