"""How the service logs."""

import json
import logging

from adsum.cli.logs import JsonFormatter


def test_a_json_line_has_time_level_logger_message_and_trace() -> None:
    error = ValueError("why")
    record = logging.LogRecord("adsum.x", logging.WARNING, "", 0, "lost %d", (3,), (ValueError, error, None))
    record.created = 1.5
    fields = json.loads(JsonFormatter().format(record))
    assert fields.pop("error").endswith("ValueError: why")
    assert fields == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "warning",
        "logger": "adsum.x",
        "message": "lost 3",
    }


def test_a_workers_lines_have_its_number() -> None:
    record = logging.LogRecord("adsum.x", logging.INFO, "", 0, "hello", (), None)
    assert json.loads(JsonFormatter(3).format(record))["worker"] == 3
