"""Health, metrics and what a client needs to know before it signs in."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse

from document_service import __version__, keys, queue, store_care, telemetry
from document_service.api import shapes
from document_service.api.callers import Opened
from document_service.database import system_transaction
from document_service.errors import ServiceError
from document_service.runtime import Runtime
from document_service.scanner import ScannerState

router = APIRouter(tags=["operations"])

#: Readiness is asked every few seconds by whoever balances load; a part that has not answered by then is not ready.
PROBE_SECONDS = 2.0


@router.get("/health/live", summary="The process answers")
async def live() -> Response:
    return JSONResponse({"status": "live"})


@router.get("/health/ready", summary="Database, keys and store answer", responses={503: {"description": "Not ready."}})
async def ready(runtime: Opened) -> Response:
    parts = {
        "database": await _state(_probe_database(runtime)),
        "keys": await _state(_probe_keys(runtime)),
        "store": await _state(runtime.store.probe()),
    }
    well = all(state == "up" for state in parts.values())
    parts |= {
        "scanner": await _scanner_state(runtime),
        "typesetting": "up" if runtime.typesetting is not None else "elsewhere",
    }
    return JSONResponse({"status": "ready" if well else "not ready", "components": parts}, 200 if well else 503)


async def _probe_database(runtime: Runtime) -> None:
    async with system_transaction(runtime.database) as connection:
        await connection.fetchval("SELECT 1")


async def _probe_keys(runtime: Runtime) -> None:
    await asyncio.to_thread(keys.probe, runtime.settings.keys)


async def _state(probe: Any) -> str:
    try:
        await asyncio.wait_for(probe, PROBE_SECONDS)
    except (ServiceError, TimeoutError, OSError):
        return "down"
    return "up"


async def _scanner_state(runtime: Runtime) -> str:
    """Named and not counted: without a scanner everything but uploads goes on."""
    state = await _ask_scanner(runtime)
    if state is None:
        return "not configured"
    return "up" if state.available else "down"


async def _ask_scanner(runtime: Runtime) -> ScannerState | None:
    if runtime.scanner is None:
        return None
    try:
        return await asyncio.wait_for(runtime.scanner.state(), PROBE_SECONDS)
    except TimeoutError:
        return ScannerState(False, "clamd did not answer in time", None, None, None)


@router.get("/metrics", summary="Counters for Prometheus")
async def metrics(runtime: Opened) -> Response:
    await _measure_database(runtime)
    scanner = await _ask_scanner(runtime)
    telemetry.scanner_up.set(int(scanner is not None and scanner.available))
    dated = None if scanner is None else scanner.signatures_at
    age = math.nan if dated is None else (datetime.now(UTC) - dated).total_seconds()
    telemetry.scanner_signature_age.set(age)
    return Response(generate_latest(telemetry.registry), media_type=CONTENT_TYPE_LATEST)


async def _measure_database(runtime: Runtime) -> None:
    """Set what only the database knows; NaN while it is away, so that all other figures are told then too."""
    waiting = (
        telemetry.queue_waiting,
        telemetry.queue_backlog,
        telemetry.queue_running,
        telemetry.queue_oldest_seconds,
    )
    try:
        async with asyncio.timeout(PROBE_SECONDS), system_transaction(runtime.database) as connection:
            stats = await queue.stats(connection)
            swept = await store_care.last_sweep(connection)
    except (ServiceError, TimeoutError):
        for gauge in waiting:
            gauge.set(math.nan)
        return
    figures = (stats.waiting, stats.backlog, stats.running, stats.oldest_waiting_seconds)
    for gauge, figure in zip(waiting, figures, strict=True):
        gauge.set(figure)
    telemetry.store_objects.set(swept.get("objects", 0))
    telemetry.store_unnamed.set(swept.get("unnamed", 0))
    telemetry.store_swept.set(swept.get("deletedEver", 0))
    telemetry.store_refused.set(swept.get("refused", 0))


@router.get("/.well-known/document-service", summary="What this service is and which keys sign its policies")
async def describe(runtime: Opened) -> Response:
    return JSONResponse(
        {
            "service": "document-service",
            "version": __version__,
            "issuer": runtime.settings.oidc_issuer,
            "policyKeys": runtime.keys.public_keys(),
            "time": shapes.instant(datetime.now(UTC)),
        }
    )
