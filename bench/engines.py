"""The same page by the engines that others use: Chromium with a new context, Chromium reused, and WeasyPrint.

    .venv/bin/python bench/engines.py [--rounds N]

Each is given the content of bench/content/en.json with other digits every time, as HTML with the same parts: letterhead
with logo, two grids of fields, twelve tests, paragraphs, signatures, QR code, and a foot with page x of y. Ours is the
whole way through the pool. Rounds take turns, so that what else the machine does falls on all.

Chromium is Debian's, spoken to over its debugging pipe, in one process that lives through the run; "new context" makes
a browser context and a page for every document and closes them, as converters behind HTTP do. Tagged, but not PDF/A:
Chromium cannot. WeasyPrint writes PDF/UA-1, its fonts loaded once.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import html
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import zxingcpp

from bare_typst import LOGO, changed
from document_service.typesetting.pool import TypesettingPool
from stand import figure, now
from typesetting import job, load

STYLE = """
@page { size: A4; margin: 16mm 18mm 24mm;
  @bottom-right { content: "Page " counter(page) " of " counter(pages); font-size: 7pt } }
body { font: 8pt sans-serif; margin: 0 }
h1 { font-size: 14pt; margin: 6pt 0 } h2 { font-size: 10pt; margin: 8pt 0 4pt } p { margin: 3pt 0 }
small, .label { font-size: 6.5pt }
.grid { display: grid; gap: 8pt 10pt } .head { display: flex; gap: 10pt; justify-content: space-between }
table { width: 100%; border-collapse: collapse } td, th { border: .5pt solid #c8c8c8; padding: 2.4pt 5pt;
text-align: left } tr:nth-child(even) { background: #f5f5f5 }
"""


def page(model: dict[str, Any]) -> str:
    """The page model as HTML."""

    def shown(text: str) -> str:
        return html.escape(text)

    def fields(section: dict[str, Any]) -> str:
        cells = "".join(
            f'<div style="grid-column: span {entry.get("span", 1)}"><div class=label>{shown(entry["label"])}</div>'
            f"{shown(entry['value'])}</div>"
            for entry in section["fields"]
        )
        columns = f"grid-template-columns: repeat({section['columns']}, 1fr)"
        return f'<h2>{shown(section["title"])}</h2><div class=grid style="{columns}">{cells}</div>'

    head, first, second, table, words, signatures, code, foot = model["sections"]
    qr = zxingcpp.create_barcode(code["content"], zxingcpp.BarcodeFormat.QRCode).to_svg(scale=1)
    pictures = ["data:image/svg+xml;base64," + base64.b64encode(one).decode() for one in (LOGO, str(qr).encode())]
    rows = "".join("<tr>" + "".join(f"<td>{shown(cell)}</td>" for cell in row) + "</tr>" for row in table["rows"])
    columns = "".join(f"<th>{shown(column['label'])}</th>" for column in table["columns"])
    slots = "".join(
        f"<div><hr>{shown(slot['label'])} {shown(slot['date'] or '')}<br>{shown(slot['name'] or '')}</div>"
        for slot in signatures["slots"]
    )
    return f"""<!doctype html><html lang="{model["lang"]}"><meta charset=utf-8><title>{shown(model["title"])}</title>
<style>{STYLE}</style><div class=head><img src="{pictures[0]}" height=40 alt="{shown(model["logo"]["alt"])}"><div>
<b>{shown(model["tenant"]["name"])}</b><br><small>{"<br>".join(map(shown, model["tenant"]["lines"]))}</small></div>
<small>{"<br>".join(shown(" ".join(item)) for item in model["identity"]["items"])}</small></div><hr>
<h1>{shown(head["title"])}</h1><p>{shown(head["subtitle"] or "")}</p>{fields(first)}{fields(second)}
<h2>{shown(table["title"])}</h2><table><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table>
<h2>{shown(words["title"] or "")}</h2>{"".join(f"<p>{shown(item)}</p>" for item in words["items"])}
<div class=grid style="grid-template-columns: 1fr 1fr auto; margin-top: 30pt">{slots}
<div><img src="{pictures[1]}" height=80 alt="{shown(code["alt"])}"></div></div>
<small>{shown(code["caption"] or "")} {shown(foot["text"])}</small></html>"""


class Chromium:
    """One browser process, spoken to in the DevTools protocol over the pipe that it reads at 3 and writes at 4."""

    def __init__(self, program: str, profile: str) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # The shell puts our ends where the browser looks for them.
        wiring = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        self._process = subprocess.Popen(
            ["bash", "-c", wiring, program, *flags, f"--user-data-dir={profile}"],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._numbers = itertools.count(1)
        self._received = b""
        self._page: str | None = None

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; what else the browser tells is passed over."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        text = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        os.write(self._out, text)
        while True:
            told = self._next()
            if told.get("id") == number:
                if "error" in told:
                    raise SystemExit(f"Chromium refused {method}: {told['error']}")
                result: dict[str, Any] = told["result"]
                return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            piece = os.read(self._in, 1 << 20)
            if not piece:
                raise SystemExit("Chromium ended")
            self._received += piece
        one, _, self._received = self._received.partition(b"\0")
        told: dict[str, Any] = json.loads(one)
        return told

    def print_reused(self, text: str) -> bytes:
        """Print on the one page that is kept."""
        if self._page is None:
            self._page = self._open(None)
        return self._print(self._page, text)

    def print_in_new_context(self, text: str) -> bytes:
        """Print on a page of a browser context of its own."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        pdf = self._print(self._open(context), text)
        self.call("Target.disposeBrowserContext", browserContextId=context)
        return pdf

    def _open(self, context: str | None) -> str:
        where = {} if context is None else {"browserContextId": context}
        target = self.call("Target.createTarget", url="about:blank", **where)["targetId"]
        return str(self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])

    def _print(self, session: str, text: str) -> bytes:
        frame = self.call("Page.getFrameTree", session)["frameTree"]["frame"]["id"]
        self.call("Page.setDocumentContent", session, frameId=frame, html=text)
        ready = "Promise.all([...document.images].map(i => i.decode()).concat(document.fonts.ready)).then(() => 1)"
        self.call("Runtime.evaluate", session, expression=ready, awaitPromise=True)
        printed = self.call("Page.printToPDF", session, preferCSSPageSize=True, generateTaggedPDF=True)
        return base64.b64decode(printed["data"])

    def close(self) -> None:
        """End the browser."""
        os.close(self._out)
        os.close(self._in)
        self._process.terminate()
        self._process.wait()


def weasyprint() -> Callable[[str], bytes] | None:
    """WeasyPrint with its fonts loaded, or None where it or Pango is not installed."""
    try:
        from weasyprint import HTML
        from weasyprint.text.fonts import FontConfiguration
    except (ImportError, OSError):
        return None
    fonts = FontConfiguration()

    def typeset(text: str) -> bytes:
        pdf = HTML(string=text).write_pdf(font_config=fonts, pdf_variant="pdf/ua-1")
        assert isinstance(pdf, bytes)
        return pdf

    return typeset


async def measure(rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every round of every engine that is here."""
    model, chance = load("en"), random.Random(4)
    with tempfile.TemporaryDirectory() as folder:
        program = shutil.which("chromium")
        browser = Chromium(program, str(Path(folder) / "profile")) if program else None
        async with TypesettingPool(1) as pool:

            async def ours(one: dict[str, Any]) -> None:
                await pool.render(job(one))

            engines: dict[str, Callable[[dict[str, Any]], Awaitable[object]]] = {"our pool": ours}

            def offer(name: str, typeset: Callable[[str], bytes]) -> None:
                async def use(one: dict[str, Any]) -> None:
                    assert typeset(page(one)).startswith(b"%PDF"), name

                engines[name] = use

            if (other := weasyprint()) is not None:
                offer("WeasyPrint", other)
            if browser is not None:
                offer("Chromium, page reused", browser.print_reused)
                offer("Chromium, new context", browser.print_in_new_context)
            taken: dict[str, list[float]] = {name: [] for name in engines}
            for number in range(rounds + 3):
                one = changed(model, chance)
                for name, use in engines.items():
                    began = now()
                    await use(one)
                    if number >= 3:
                        taken[name].append(1000 * (now() - began))
        if browser is not None:
            browser.close()
    return {name: sorted(times) for name, times in taken.items()}


def main() -> None:
    """Print one row for each engine."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    arguments.add_argument("--rounds", type=int, default=60)
    taken = asyncio.run(measure(arguments.parse_args().rounds))
    yardstick = statistics.median(taken["our pool"])
    for name, times in taken.items():
        median = statistics.median(times)
        at = [times[int(share * (len(times) - 1))] for share in (0.95, 0.99)]
        figure(
            f"the one-page form, warm, p50, p95, p99: {name}",
            "",
            f"{median:.1f}, {at[0]:.1f}, {at[1]:.1f} ms; × {median / yardstick:.1f}",
        )
    for name in ("WeasyPrint", "Chromium, page reused"):
        if name not in taken:
            print(f"not run: {name} (scripts/install-engines chromium; weasyprint needs Debian's libpango)")


if __name__ == "__main__":
    main()
