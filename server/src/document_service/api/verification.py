"""The public page behind the QR code on paper: is this document genuine, and does it still count?

It shows what the paper shows (number, issue time, issuer), as the paper writes it, to compare with, and no patient
data. The code cannot be guessed: 144 bits. Every look at a known code is audited with what was told.
"""

from __future__ import annotations

import re
from datetime import datetime
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse, JSONResponse

from document_service import audit, tenants
from document_service.api import shapes
from document_service.api.callers import Opened
from document_service.database import system_transaction, tenant_transaction
from document_service.errors import NotFound, ServiceError, TooManyRequests
from document_service.formatting.dates import date_time_text
from document_service.formatting.locales import STANDARD_WORDS, style
from document_service.runtime import Runtime
from document_service.telemetry import log

router = APIRouter(tags=["verification"])

_CODE = re.compile(r"[A-Za-z0-9_-]{20,40}")

_WORDS = {
    "genuine": ("Genuine", "This document was issued by the organisation below and is current."),
    "superseded": ("Superseded", "This document was genuine and has been replaced by a newer one. Do not act on it."),
    "withdrawn": ("Withdrawn", "This document was withdrawn by its issuer. Do not act on it."),
}

_STATES = {"current": "genuine", "superseded": "superseded", "entered-in-error": "withdrawn"}

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>{title}</title>
<style>body{{font:18px/1.5 system-ui,sans-serif;margin:3em auto;max-width:32em;padding:0 1em;color:#1b2733}}
h1{{color:{color}}}dt{{color:#5a6b7b;font-size:.8em}}dd{{margin:0 0 .8em;font-weight:600}}</style>
<h1>{title}</h1><p>{sentence}</p>{rest}</html>"""

_COMPARE = "<p>Compare these with the paper in your hand. If they differ, the paper is not the document.</p>"

_GREEN, _RED, _GREY = "#0a6b3b", "#a11622", "#1b2733"

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Referrer-Policy": "no-referrer",
}


@router.get("/verify/{code}", summary="Is a printed document genuine?")
async def verify(code: str, runtime: Opened, request: Request) -> Response:
    accepted = request.headers.get("accept", "")
    try:
        runtime.public_throttle.take(request.client.host if request.client else "unknown")
        told, printed = await _look(runtime, code, str(request.state.request_id))
    except (NotFound, TooManyRequests) as refusal:
        # A program gets the problem document; whoever holds a forged paper and a phone gets words.
        if "text/html" not in accepted or "application/json" in accepted:
            raise
        return _refusal_page(refusal)
    if "application/json" in accepted:
        return JSONResponse(told, headers=_HEADERS)
    return _state_page(told, printed)


async def _look(runtime: Runtime, code: str, request_id: str) -> tuple[dict[str, Any], list[str]]:
    """What may be told of the document with this code, and how its issue time may stand on the paper.

    The look is recorded in its tenant's trail.

    Raises:
        NotFound: no document has the code. It belongs to no tenant, so only the log and the metrics hold the look.
    """
    row = None
    if _CODE.fullmatch(code):
        async with system_transaction(runtime.database) as connection:
            row = await connection.fetchrow("SELECT * FROM document.find_verification($1)", code)
    if row is None:
        log.info("verification.unknown", request=request_id)
        raise NotFound("No document has this code; check that the whole address was scanned.")
    state = _STATES[row["status"]]
    async with tenant_transaction(runtime.database.app, row["tenant_id"]) as connection:
        profile = (await tenants.show(connection, row["tenant_id"])).profile
        await audit.record(
            connection,
            row["tenant_id"],
            audit.Event(
                "document.verify",
                "public",
                document_id=row["document_id"],
                request_id=request_id,
                detail={"told": state},
            ),
        )
    issued = row["rendered_at"]
    told = {
        "status": state,
        "number": row["number"],
        "issuedAt": None if issued is None else shapes.instant(issued),
        "issuer": row["issuer"],
    }
    return told, [] if issued is None else _as_printed(issued, profile)


def _as_printed(issued: datetime, profile: tenants.Profile) -> list[str]:
    """The moment in the organisation's zone, calendar and digits, in each language of the forms.

    Whoever reads "Issued 04:33 +04:30" on a sheet and 00:03Z here takes a genuine document for a forged one.
    """
    texts = []
    for locale in STANDARD_WORDS:
        # The row holds the choices as the text that they were checked as.
        choices: dict[str, Any] = {"digits": profile.digits, "calendar": profile.calendar}
        texts.append(date_time_text(issued.isoformat(), style(locale, time_zone=profile.time_zone, **choices)))
    return list(dict.fromkeys(texts))


def _state_page(told: dict[str, Any], printed: list[str]) -> Response:
    title, sentence = _WORDS[told["status"]]
    facts = "".join(
        f"<dt>{label}</dt>" + "".join(f'<dd dir="auto">{escape(text)}</dd>' for text in texts)
        for label, texts in (
            ("Document number", [str(told["number"])]),
            ("Issued at, as the languages of the forms write it", printed),
            ("Issued by", [str(told["issuer"])]),
        )
        if texts
    )
    color = _GREEN if told["status"] == "genuine" else _RED
    page = _PAGE.format(title=title, sentence=sentence, rest=f"<dl>{facts}</dl>{_COMPARE}", color=color)
    return HTMLResponse(page, headers=_HEADERS)


def _refusal_page(refusal: ServiceError) -> Response:
    title, sentence, color = (
        (
            "Not found",
            "No document has this code. Scan the whole code again; if this stays, do not trust the paper.",
            _RED,
        )
        if refusal.status == 404
        else ("Please wait", "Too many codes were looked up from here. Try again in a moment.", _GREY)
    )
    page = _PAGE.format(title=title, sentence=sentence, rest="", color=color)
    return HTMLResponse(page, refusal.status, {**_HEADERS, **refusal.headers})
