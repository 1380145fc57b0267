"""The table at the end of the walk: what happened, how long it took, where the PDFs are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from document_service.demo.walk import Walk


def print_report(console: Console, walk: Walk) -> None:
    """Print the steps and the saved documents."""
    from rich.table import Table
    from rich.text import Text

    steps = Table(title="What happened", title_justify="left")
    steps.add_column("step")
    steps.add_column("held")
    steps.add_column("seconds", justify="right")
    steps.add_column("seen", overflow="fold")
    for step in walk.steps:
        held = Text("yes", "green") if step.held else Text("NO", "bold red")
        # Text, not markup: what was seen may hold square brackets.
        steps.add_row(step.title, held, f"{step.seconds:.1f}", Text(step.seen))
    steps.add_section()
    steps.add_row("in all", "", f"{sum(step.seconds for step in walk.steps):.1f}", "")
    console.print(steps)
    if walk.copies:
        copies = Table(title="The documents", title_justify="left")
        for name in ("number", "language", "pages", "file"):
            copies.add_column(name, overflow="fold")
        for copy in walk.copies:
            copies.add_row(copy.number, copy.locale, str(copy.pages), str(copy.path))
        console.print(copies)
