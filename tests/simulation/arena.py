"""What a simulation changes for its own sake, for as long as it runs: nothing that decides anything."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, ClassVar

import rfc8785

from document_client import reactions, receiving, sync
from document_client.answers import Answer
from document_client.model import rules

from . import memory

#: Twenty failures of one request would need twenty more cycles in every seed; the rule is the same for four.
MOST_FAILURES = 4
_ROWS = {verdict: "row " + verdict.value for verdict in reactions.Verdict}


class _Canonical:
    """Stands for ``rfc8785``: the model asks for the checksum of the same definition in every seed."""

    _written: ClassVar[dict[int, tuple[Any, bytes]]] = {}

    @classmethod
    def dumps(cls, value: Any) -> bytes:
        known = cls._written.get(id(value))
        if known is None or known[0] is not value:
            known = cls._written[id(value)] = (value, rfc8785.dumps(value))
            if len(cls._written) > 64:
                cls._written.clear()
        return known[1]


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
        (receiving, "quote", remembered(receiving.quote)),
        (rules, "rfc8785", _Canonical),
        (sync, "MOST_FAILURES", MOST_FAILURES),
        (sync, "judge_request", counted),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    thresholds = gc.get_threshold()
    for module, name, value in changes:
        setattr(module, name, value)
    # A seed leaves some thousand objects in cycles; looking for them after every 700 costs a tenth of the time.
    gc.set_threshold(100_000, 20, 100)
    gc.freeze()
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        gc.set_threshold(*thresholds)
        gc.unfreeze()
