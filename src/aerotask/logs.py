"""Log configuration of the processes: events with key-values, as text or JSON."""

from __future__ import annotations

import logging
import sys

import structlog

from aerotask.domain.text_cleaning import clean_line

# Libraries that log every step at INFO; their warnings still come through.
_VERBOSE = ("alembic.runtime.plugins", "arq", "httpx", "asyncio")


def _without_controls(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Remove control characters: names come from users and could move a terminal's cursor or fake a line."""
    for key, value in event.items():
        if isinstance(value, str):
            # A traceback has several lines; every other value is one.
            lines = value.split("\n") if key == "exception" else [value]
            event[key] = "\n".join(map(clean_line, lines))
    return event


def configure_logs(form: str) -> None:
    """Send every event, ours and the libraries', to standard error; `form` is `console` or `json`."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _without_controls,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name in _VERBOSE:
        logging.getLogger(name).setLevel(logging.WARNING)
