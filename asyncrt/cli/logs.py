"""Where log records go: a file for machines or people, else warnings as lines on stderr."""

from __future__ import annotations

import json
import logging
import time

from asyncrt.cli import errors
from asyncrt.cli.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.cli.options import Options

_LEVELS = {"WARNING": "warning", "CRITICAL": "fatal"}


def set_up(options: Options) -> None:
    """Direct every log record of this process. Raises OSError when the file can't be opened."""
    handler: logging.Handler
    if options.log is not None:
        handler = logging.FileHandler(options.log, encoding="utf-8", errors="backslashreplace")
        handler.setFormatter(_Json() if options.log_format == "json" else _Text())
        level = logging.DEBUG if options.debug else logging.INFO
    else:
        handler = _Stderr()
        level = logging.DEBUG if options.debug else logging.WARNING
    logger = logging.getLogger()
    logger.addHandler(handler)
    logger.setLevel(level)
    logging.getLogger("asyncio").setLevel(logging.WARNING)  # its steps are nobody's here


def _stamp(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


class _Text(logging.Formatter):
    """One line per record; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        line = (
            f"{_stamp(record)} {record.levelname} {record.name}: {printable(record.getMessage())}"
        )
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _Json(logging.Formatter):
    """One JSON object per line; level, msg and time as runc names them, for those who parse that."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": _stamp(record),
            "level": _LEVELS.get(record.levelname, record.levelname.lower()),
            "msg": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class _Stderr(logging.Handler):
    """What no file was given for: lines like those of errors."""

    def emit(self, record: logging.LogRecord) -> None:
        if not hasattr(record, "told"):  # an error that ends the command is on stderr already
            errors.say(f"{record.levelname.lower()}: {record.getMessage()}")
