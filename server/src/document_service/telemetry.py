"""Logs as one JSON object a line, and counters for /metrics. Both carry ids, codes and durations only."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

registry = CollectorRegistry()

requests_total = Counter(
    "document_service_requests", "HTTP requests by route and status class", ["route", "status"], registry=registry
)
request_seconds = Histogram(
    "document_service_request_seconds", "Duration of HTTP requests by route", ["route"], registry=registry
)
render_seconds = Histogram(
    "document_service_render_seconds", "Duration of render attempts by outcome", ["outcome"], registry=registry
)
queue_waiting = Gauge("document_service_queue_waiting", "Render jobs that wait", registry=registry)
queue_backlog = Gauge("document_service_queue_backlog", "Render jobs that wait for admission", registry=registry)
queue_running = Gauge("document_service_queue_running", "Render jobs that run", registry=registry)
queue_oldest_seconds = Gauge(
    "document_service_queue_oldest_seconds", "Age of the oldest waiting render job", registry=registry
)
#: What the last daily sweep of the object store saw, in whichever process it ran.
store_objects = Gauge("document_service_store_objects", "Objects in the store at the last sweep", registry=registry)
store_unnamed = Gauge(
    "document_service_store_unnamed_objects", "Objects that no row named at the last sweep", registry=registry
)
store_swept = Gauge("document_service_store_swept_objects", "Objects that all sweeps have deleted", registry=registry)
store_refused = Gauge(
    "document_service_store_sweep_refused_tenants",
    "Tenants whose sweep was refused because it would have taken most objects",
    registry=registry,
)
objects_damaged = Counter(
    "document_service_objects_damaged_total",
    "Reads of a stored object that failed its integrity check or was not there",
    registry=registry,
)
scanner_up = Gauge("document_service_scanner_up", "1 when clamd answers, 0 when uploads are refused", registry=registry)
scanner_signature_age = Gauge(
    "document_service_scanner_signature_age_seconds",
    "Age of clamd's signatures; NaN when they carry no official date",
    registry=registry,
)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **getattr(record, "facts", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            # The type and the place are enough to find the fault; the text of an exception may quote data.
            entry["exception"] = record.exc_info[0].__name__
            entry["where"] = _places(record.exc_info[2])
        return json.dumps(entry, ensure_ascii=False)


def _places(traceback: Any) -> list[str]:
    places = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{code.co_filename.rsplit('/', 2)[-1]}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return places[-12:]


class Log:
    """A logger whose entries are an event name and facts: ``log.info("job.done", job=…)``."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, event: str, **facts: Any) -> None:
        """Write an entry that is worth reading once a day."""
        self._logger.info(event, extra={"facts": facts})

    def warning(self, event: str, **facts: Any) -> None:
        """Write an entry that an operator may have to act on."""
        self._logger.warning(event, extra={"facts": facts})

    def error(self, event: str, **facts: Any) -> None:
        """Write an entry that an operator has to act on."""
        self._logger.error(event, extra={"facts": facts})

    def exception(self, event: str, **facts: Any) -> None:
        """Write an error of our own with the places that it passed; call it while handling the exception."""
        self._logger.error(event, exc_info=True, extra={"facts": facts})


log = Log("document_service")


def configure(level: str) -> None:
    """Send all log entries to standard error as JSON lines; libraries speak from WARNING up."""
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(_JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(logging.WARNING)
    logging.getLogger("document_service").setLevel(level)
    # pgqueuer logs exceptions of handlers with their text; ours are recorded on the job instead.
    logging.getLogger("pgqueuer").setLevel(logging.ERROR)
