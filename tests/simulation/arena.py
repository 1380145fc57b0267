"""What a simulation changes for its own sake, for as long as it runs: nothing that decides anything."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from document_client import reactions, sync
from document_client.answers import Answer
from document_client.model import rules

from . import memory

#: Twenty failures of one request would need twenty more cycles in every seed; the rule is the same for four.
MOST_FAILURES = 4
_ROWS = {verdict: "row " + verdict.value for verdict in reactions.Verdict}


@contextmanager
def arena(stats: Counter[str] | None = None) -> Iterator[None]:
    """Make conversions of instants quick (they are pure), let the server fail on a request less often.

    ``stats`` counts how often each row of the reaction table was met by a render request.
    """
    judge = sync.judge_request

    def counted(answer: Answer, cmid: str, now: float) -> reactions.Judged:
        judged = judge(answer, cmid, now)
        if stats is not None:
            stats[_ROWS[judged.verdict]] += 1
        return judged

    remembered = lru_cache(maxsize=8192)
    changes = [
        (reactions, "parsedate_to_datetime", remembered(reactions.parsedate_to_datetime)),
        (rules, "to_text", remembered(rules.to_text)),
        (rules, "from_text", remembered(rules.from_text)),
        (memory, "to_text", remembered(memory.to_text)),
        (sync, "MOST_FAILURES", MOST_FAILURES),
        (sync, "judge_request", counted),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    thresholds = gc.get_threshold()
    for module, name, value in changes:
        setattr(module, name, value)
    # A seed leaves some thousand objects in cycles; looking for them after every 700 costs a tenth of the time.
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        gc.set_threshold(*thresholds)
