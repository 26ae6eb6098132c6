"""How the service logs: to stderr, as lines to read or as JSON, one object a line."""

import json
import logging
from datetime import UTC, datetime

from adsum.app.settings import Settings


class JsonFormatter(logging.Formatter):
    """One JSON object for each record: time, level, logger, message, and the error's trace if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def configure(settings: Settings, level: str | None = None) -> None:
    """Log as the settings say; at another level if one is given."""
    handler = logging.StreamHandler()
    if settings.log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=(level or settings.log_level).upper(), handlers=[handler], force=True)
