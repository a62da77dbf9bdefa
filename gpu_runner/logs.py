"""Logs of the programs: lines for people, or one JSON object a line for a collector.

Messages are written as a phrase and fields (`job leased job=a token=7`), so both hold the same.
"""

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import IO

_FIELD = re.compile(r"\b(\w+)=(\S+)")


class JsonFormatter(logging.Formatter):
    """One object a line: when, how bad, where, what, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        message = record.getMessage()
        fields = dict(_FIELD.findall(message))
        phrase = message[: found.start()].strip() if (found := _FIELD.search(message)) else message
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": phrase,
            "message": message,
            "fields": fields,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr(stream: IO[str] | None = None) -> None:
    """Log as the environment says: KERNELPILOT_LOG is the level, KERNELPILOT_LOG_FORMAT the form.

    Args:
        stream: where to; by default the standard error.
    """
    level = os.environ.get("KERNELPILOT_LOG", "INFO").upper()
    handler = logging.StreamHandler(stream or sys.stderr)
    if os.environ.get("KERNELPILOT_LOG_FORMAT") == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
