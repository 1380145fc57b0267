"""The measure that the service is compared with: Typst alone, on a fixed, full one-page form.

A plain Typst page as anybody would write it: twelve tests in a table, a logo, a QR code, two signature lines, a
running foot with page x of y, PDF/A-2a and PDF/UA-1. One process, warm, new data every time (every digit differs),
fonts and source loaded once. No pool, no bindings, no glyph check, no sealing: what is left is what Typst costs.

    .venv/bin/python bench/bare_typst.py [--rounds N] [--locale en|fa-AF|ps-AF] [--save FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import typst
import zxingcpp

CONTENT = Path(__file__).parent / "content"
LOGO = (CONTENT / "logo.svg").read_bytes()
ISSUED_AT = datetime(2025, 11, 9, 10, 2, tzinfo=UTC)
FONT_PACKAGES = ("fontpkg_noto_sans", "fontpkg_amiri", "fontpkg_open_sans")

PAGE = """
#let m = json("page.json")
#let rtl-page = m.dir == "rtl"
#set document(title: m.title, author: m.tenant.name)
#set text(
  font: if rtl-page { ("Amiri", "Noto Sans", "Open Sans") } else { ("Noto Sans", "Amiri", "Open Sans") },
  size: 9pt, lang: m.lang, region: m.region, dir: if rtl-page { rtl } else { ltr },
)
#set page(
  paper: "a4",
  margin: (x: 18mm, top: 16mm, bottom: 24mm),
  footer: context [
    #set text(size: 7pt)
    #line(length: 100%, stroke: 0.5pt)
    #strong(m.identity.patient) #h(1fr) #m.identity.items.at(0).at(1) ·
    #m.identity.pageOf.replace("{page}", str(here().page())).replace("{pages}", str(counter(page).final().first()))
    \\ #m.identity.items.slice(1).map(i => i.join(" ")).join(" · ")
  ],
)
#let fields(s) = {
  heading(level: 2, s.title)
  grid(
    columns: (1fr,) * s.columns, column-gutter: 10pt, row-gutter: 8pt,
    ..s.fields.map(f => grid.cell(colspan: f.span)[
      #text(size: 7pt, f.label) \\ #if f.strong { strong(f.value) } else { f.value }
    ]),
  )
}
#grid(
  columns: (auto, 1fr, auto), column-gutter: 10pt, align: horizon,
  image("logo.svg", height: 30pt, alt: m.logo.alt),
  [*#m.tenant.name* \\ #m.tenant.lines.map(l => text(size: 7pt, l)).join(linebreak())],
  grid(columns: 2, gutter: 6pt, ..m.identity.items.slice(0, 2).flatten().map(t => text(size: 7pt, t))),
)
#line(length: 100%)
= #m.sections.at(0).title
#m.sections.at(0).subtitle
#fields(m.sections.at(1))
#fields(m.sections.at(2))
#let t = m.sections.at(3)
== #t.title
#table(
  columns: (auto, 2.6fr, 1.25fr, 1.4fr, auto),
  inset: (x: 6pt, y: 3.4pt), stroke: 0.5pt + luma(200), fill: (_, y) => if calc.even(y) { luma(245) },
  table.header(..t.columns.map(c => strong(c.label))),
  ..t.rows.flatten(),
)
#let p = m.sections.at(4)
== #p.title
#for item in p.items { par(item) }
#let s = m.sections.at(5)
#v(30pt)
#grid(
  columns: (1fr, 1fr, auto), column-gutter: 20pt,
  ..s.slots.map(slot => [#line(length: 100%) #slot.label #h(1fr) #slot.date \\ #slot.name]),
  image("qr.svg", height: 62pt, alt: m.sections.at(6).alt),
)
#text(size: 7pt, m.sections.at(6).caption)
#text(size: 7pt, m.sections.at(7).text)
"""


def changed(value: Any, chance: random.Random) -> Any:
    """The same content with other digits, so that no cache can answer; measures and colours stay."""
    if isinstance(value, str):
        return "".join(chance.choice("0123456789") if c in "0123456789" else c for c in value)
    if isinstance(value, list):
        return [changed(item, chance) for item in value]
    if isinstance(value, dict):
        fixed = ("colors", "page", "width", "layout")
        return {key: item if key in fixed else changed(item, chance) for key, item in value.items()}
    return value


def bare(empty_dir: Path) -> Callable[[dict[str, Any]], bytes]:
    """Load Typst once; the answer prints one page model."""
    fonts = typst.Fonts(
        include_system_fonts=False,
        include_embedded_fonts=False,
        font_paths=[str(files(package) / "files") for package in FONT_PACKAGES],
    )
    compiler = typst.Compiler(None, root=str(empty_dir), font_paths=fonts)

    def typeset(model: dict[str, Any]) -> bytes:
        code = zxingcpp.create_barcode(model["sections"][6]["content"], zxingcpp.BarcodeFormat.QRCode)
        sources = {
            "main.typ": PAGE.encode(),
            "page.json": json.dumps(model, ensure_ascii=False).encode(),
            "logo.svg": LOGO,
            "qr.svg": str(code.to_svg(scale=1)).encode(),
        }
        pdf = compiler.compile(
            sources,  # type: ignore[type-var]  # The stub does not know of the dict that the engine takes.
            format="pdf",
            pdf_standards=["a-2a", "ua-1"],
            timestamp=ISSUED_AT,
        )
        assert isinstance(pdf, bytes)
        return pdf

    return typeset


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--rounds", type=int, default=200)
    arguments.add_argument("--locale", default="en", choices=("en", "fa-AF", "ps-AF"))
    arguments.add_argument("--save", type=Path)
    arguments.add_argument("--json", action="store_true", help="print documents a second and CPU ms of one as JSON")
    chosen = arguments.parse_args()
    model = json.loads((CONTENT / f"{chosen.locale}.json").read_text())
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as empty_dir:
        typeset = bare(Path(empty_dir))
        for _ in range(10):
            typeset(changed(model, chance))
        taken, used = [], 0.0
        for _ in range(chosen.rounds):
            one = changed(model, chance)
            started, before = time.perf_counter(), time.process_time()
            pdf = typeset(one)
            used += (time.process_time() - before) * 1000
            taken.append((time.perf_counter() - started) * 1000)
    if chosen.json:
        print(json.dumps({"perSecond": 1000 * len(taken) / sum(taken), "cpuMs": used / len(taken)}))
        return
    taken.sort()
    p95 = taken[int(len(taken) * 0.95)]
    print(
        f"bare Typst, {chosen.locale}: median {statistics.median(taken):.2f} ms, p95 {p95:.2f} ms, "
        f"{len(pdf)} bytes, {len(taken)} rounds"
    )
    if chosen.save:
        chosen.save.write_bytes(pdf)


if __name__ == "__main__":
    main()
