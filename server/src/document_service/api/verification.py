"""The public page behind the QR code on paper: is this document genuine, and does it still count?

It shows what the paper shows (number, issue time, issuer) to compare with, and no patient data. The code cannot be
guessed: 144 bits. Every look at a known code is audited.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse, JSONResponse

from document_service import audit
from document_service.api import shapes
from document_service.api.callers import Opened
from document_service.database import system_transaction, tenant_transaction
from document_service.errors import NotFound

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
<h1>{title}</h1><p>{sentence}</p>{facts}
<p>Compare these with the paper in your hand. If they differ, the paper is not the document.</p></html>"""


@router.get("/verify/{code}", summary="Is a printed document genuine?")
async def verify(code: str, runtime: Opened, request: Request) -> Response:
    runtime.public_throttle.take(request.client.host if request.client else "unknown")
    row = None
    if _CODE.fullmatch(code):
        async with system_transaction(runtime.database) as connection:
            row = await connection.fetchrow("SELECT * FROM document.find_verification($1)", code)
    if row is None:
        raise NotFound("No document has this code; check that the whole address was scanned.")
    async with tenant_transaction(runtime.database.app, row["tenant_id"]) as connection:
        await audit.record(
            connection,
            row["tenant_id"],
            audit.Event(
                "document.verify", "public", document_id=row["document_id"], request_id=request.state.request_id
            ),
        )
    state = _STATES[row["status"]]
    told: dict[str, Any] = {
        "status": state,
        "number": row["number"],
        "issuedAt": None if row["rendered_at"] is None else shapes.instant(row["rendered_at"]),
        "issuer": row["issuer"],
    }
    headers = {
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        "Referrer-Policy": "no-referrer",
    }
    if "application/json" in request.headers.get("accept", ""):
        return JSONResponse(told, headers=headers)
    title, sentence = _WORDS[state]
    facts = "".join(
        f"<dt>{label}</dt><dd>{escape(str(told[key]))}</dd>"
        for label, key in (("Document number", "number"), ("Issued at", "issuedAt"), ("Issued by", "issuer"))
    )
    color = "#0a6b3b" if state == "genuine" else "#a11622"
    return HTMLResponse(
        _PAGE.format(title=title, sentence=sentence, facts=f"<dl>{facts}</dl>", color=color), headers=headers
    )
