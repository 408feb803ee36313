"""Structured logs: one line an event, as text or JSON, without secrets. Each event name is counted for the metrics."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter


def configure(level: str, form: Literal["json", "text"], registry: CollectorRegistry) -> None:
    """Send our events, and other libraries' warnings, to standard error."""
    events = Counter("sluss_events", "Log events of each kind.", ["event", "level"], registry=registry)

    def count(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        events.labels(event["event"], method).inc()
        return event

    common: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Plain tracebacks: the richer ones print local variables, and those are links and codes.
        structlog.processors.format_exc_info,
    ]
    logfmt = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)
    render: list[structlog.types.Processor] = (
        [structlog.processors.JSONRenderer()] if form == "json" else [_escape, logfmt]
    )
    structlog.configure(
        processors=[count, *common, *render],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # Others' warnings alone: at DEBUG slixmpp prints whole stanzas, tickets included.
    root.setLevel(logging.WARNING)
    # aiohttp's access log prints paths, links included.
    logging.getLogger("aiohttp.access").disabled = True
    server = logging.getLogger("aiohttp.server")
    server.filters = [_without_request]


def _escape(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Write what a terminal would obey as an escape; the renderer does so with line ends alone."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in value)
    return event


def _without_request(record: logging.LogRecord) -> bool:
    """Keep of a request that aiohttp could not read what was wrong: its text has lines with links and cookies."""
    if record.exc_info and record.exc_info[0]:
        record.msg = f"{record.getMessage()}: {record.exc_info[0].__name__}"
        record.args = record.exc_info = None
    return True
