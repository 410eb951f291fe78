"""Logging of the `redrive` command: events with fields, to stderr.

Only the command line sets this up. A program that embeds redrive keeps its own set-up: modules do
no more than `structlog.get_logger("redrive.…")`.
"""

from __future__ import annotations

import logging
import sys
import traceback

import structlog
from structlog.types import EventDict, ExcInfo, Processor, WrappedLogger

from redrive.aside import Late, call_and_wait
from redrive.telemetry.redactor import BUILT_IN
from redrive.telemetry.terminal import visible, visible_lines

__all__ = ["configure_logging"]

# Loggers under our name that speak for a library.
_LIBRARIES = ("redrive.kafka.librdkafka",)
MAX_LINE_CHARS = 16_000
"""Of all long texts of one line together: it may be the event loop that has to mask them. [P7]"""
_OF_LINES = frozenset({"exception", "stack"})
_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure_logging(
    *, json: bool | None = None, level: str = "INFO", worker: str | None = None
) -> None:
    """Send logs to stderr: for people when it is a terminal, else one JSON object a line.

    Args:
        json: Choose the form, whatever stderr is.
        level: Of redrive's own loggers; other libraries are heard from WARNING on, if at all.
        worker: Who speaks, where several write to one stderr.
    """
    # For every record, ours and that of other libraries.
    shared = _SHARED if worker is None else (*_SHARED, _said_by(worker))
    as_json = not sys.stderr.isatty() if json is None else json
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(as_json=as_json),
            ],
        )
    )
    of_others = max(logging.WARNING, logging.getLevelNamesMapping()[level])
    logging.basicConfig(handlers=[handler], level=of_others, force=True)
    logging.getLogger("redrive").setLevel(level)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(of_others)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _said_by(worker: str) -> Processor:
    def name(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
        return {"worker": worker, **event_dict}

    return name


def _renderers(*, as_json: bool) -> list[Processor]:
    # Whatever anyone logs, tracebacks of libraries too: the last place to mask a secret. [P15]
    masked: list[Processor] = [structlog.processors.ExceptionRenderer(_traceback), _mask]
    if as_json:
        return [*masked, structlog.processors.JSONRenderer()]
    # Plain tracebacks: the rich ones print local variables, which may hold payloads. [P15]
    return [
        *masked,
        _escape,
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
    ]


def _traceback(exc_info: ExcInfo) -> str:
    """Return the traceback; what an exception says is its class's code, which may not return."""
    told = call_and_wait(
        lambda: "".join(traceback.format_exception(exc_info[1])), about=exc_info[0]
    )
    if isinstance(told, Late):
        return f"{exc_info[0].__name__}: it was not told in time"
    return told.removesuffix("\n")


def _mask(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    plain = {str(name): _plain(value) for name, value in event_dict.items()}
    return BUILT_IN.within(plain, most=MAX_LINE_CHARS)


def _escape(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """Let no value command the terminal, nor begin a line of its own; a traceback has lines."""
    return {
        visible(name): value
        if not isinstance(value, str)
        else visible_lines(value, indent="  ")
        if name in _OF_LINES
        else visible(value)
        for name, value in event_dict.items()
    }


def _plain(value: object) -> object:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case dict():
            return {str(name): _plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
    return repr(value)
