"""Evaluate parsed FHIRPath with fhirpathpy's functions, bounded by an alarm, with the gaps of the engine closed.

The engine's public ``evaluate`` is not called: it rebuilds its function table and asks for the time at every call,
which costs more than a short path itself, and walks the tree anew (``steps``). Results keep the engine's nodes between
a collection and its items, so that choice types (``value`` → ``valueQuantity``) resolve inside entries too.
"""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import tzinfo
from types import FrameType
from typing import Any

from fhirpathpy.engine.invocations.constants import constants
from fhirpathpy.engine.nodes import FP_DateTime, FP_Quantity, FP_Time, ResourceNode, TypeInfo

from document_service.bindings.extensions import is_only_extension
from document_service.bindings.functions import FUNCTIONS
from document_service.bindings.members import R4
from document_service.bindings.steps import Step

# Design §5. The slowest path of the platform forms takes under 1 ms; what takes 300 never ends.
MOST_SECONDS = 0.3  # of the processor

# The signal may land inside a finaliser, where Python prints what is raised and goes on; so it rings again until
# somebody hears it.
RING_AGAIN_SECONDS = 0.02

# ``ofType`` reads the model from this global, which the engine itself sets only in ``is`` and ``as``.
TypeInfo.model = R4  # type: ignore[assignment]


class EvaluationFailed(Exception):
    """The engine refused the data (several items where one is needed, wrong operand types); says no more, because
    the engine's own text quotes the data."""


class EvaluationTimeout(EvaluationFailed):
    """The evaluation did not end within its time."""


class _Alarm(BaseException):
    """Raised by the signal; not an Exception, so that no handler inside the engine can swallow it."""


def _ring(signum: int, frame: FrameType | None) -> None:
    if _evaluating:
        raise _Alarm


def _put_off() -> None:
    global _evaluating
    _evaluating = False
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)


@contextmanager
def alarm() -> Iterator[None]:
    """Arm evaluations inside with a signal where that is possible: in the main thread of a process.

    The timer counts the process's own time (SIGVTALRM), so that a busy machine fails no sound document. Elsewhere the
    killable child process is the only bound. The previous handler comes back at the end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGVTALRM, _ring)
    global _armed
    outer, _armed = _armed, True
    # A collection walks through all that the process holds; that is not the expression's time, and makes a sound
    # document fail where it holds much.
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    except _Alarm:
        # It rang between the end of an evaluation and the moment the timer was put off.
        raise EvaluationTimeout from None
    finally:
        _put_off()
        if collecting:
            gc.enable()
        _armed = outer
        signal.signal(signal.SIGVTALRM, previous)


# Whether the caller stands inside ``alarm``, and whether an evaluation is running that the signal may end. Between two
# evaluations the timer runs on, which spares putting it off: the next one sets it anew, and no ring before is heeded.
_armed = False
_evaluating = False


def evaluate(step: Step, focus: list[Any], variables: Mapping[str, Any], zone: tzinfo | None = None) -> list[Any]:
    """The collection of engine values that an expression's ``step`` yields; ``$this`` and the root are ``focus``.

    ``zone`` is the tenant's, by which dates are put in order; UTC where none is named.

    Raises EvaluationFailed, or EvaluationTimeout after MOST_SECONDS where an alarm is armed.
    """
    global _evaluating
    context = {
        "dataRoot": focus,
        "$this": focus,
        "vars": variables,
        "model": R4,
        "userInvocationTable": FUNCTIONS,
        "zone": zone,
    }
    try:
        if _armed:
            # First the timer: a ring that was still due to an earlier evaluation is over when this one counts as begun.
            signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS, RING_AGAIN_SECONDS)
            _evaluating = True
        try:
            found = step(context, focus)
        finally:
            _evaluating = False
    except _Alarm:
        _evaluating = False
        raise EvaluationTimeout from None
    except RecursionError:
        raise EvaluationFailed("recursion") from None
    except MemoryError:
        raise
    except Exception as error:
        # The engine raises bare Exception, TypeError, KeyError and more; their text may quote the record.
        raise EvaluationFailed(type(error).__name__) from None
    return [item for item in found if not is_only_extension(item)]


def plain(item: Any) -> Any:
    """One result as the JSON value that the record holds; literals of the engine become their JSON form."""
    data = item.data if isinstance(item, ResourceNode) else item
    if isinstance(data, FP_Quantity):
        return {"value": data.value, "unit": str(data.unit or "").strip("'")}
    if isinstance(data, FP_DateTime | FP_Time):
        return data.asStr
    return data


def forget_time() -> None:
    """Let the engine ask for the time again; now() and today() are not allowed in templates, the suite uses them."""
    constants.reset()
