"""How the service logs: to stderr, as lines to read or as JSON, one object a line."""

import json
import logging
from datetime import UTC, datetime

from adsum.app.settings import Settings


class JsonFormatter(logging.Formatter):
    """One JSON object for each record: time, level, logger, message, and the error's trace if there is one.

    Of a worker, its number too.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._more = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._more,
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def configure(settings: Settings, level: str | None = None, worker: int | None = None) -> None:
    """Log as the settings say; at another level if one is given. A worker's lines have its number."""
    handler = logging.StreamHandler()
    if settings.log_format == "json":
        handler.setFormatter(JsonFormatter(worker))
    else:
        who = "" if worker is None else f"[{worker}] "
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)-7s {who}%(name)s: %(message)s"))
    logging.basicConfig(level=(level or settings.log_level).upper(), handlers=[handler], force=True)
