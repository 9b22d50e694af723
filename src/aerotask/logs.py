"""How the processes write their own log: events with key-values, for people or for machines."""

from __future__ import annotations

import logging
import sys

import structlog

from aerotask.domain.text_cleaning import clean_line

# Libraries that tell of every step at INFO; what they warn of still comes through.
_TALKATIVE = ("alembic.runtime.plugins", "arq", "httpx", "asyncio")


def _without_controls(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Names and messages come from people: nothing of them may move a terminal's cursor or fake a line."""
    for key, value in event.items():
        if isinstance(value, str):
            # A trace has lines; every other value is one.
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
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
