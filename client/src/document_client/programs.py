"""What other programs that this one starts (a viewer, a browser, ``lp``) inherit: everything but the passphrase.

A viewer may be a script that writes its environment down, a browser lives for days and hands it to all that it starts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_WITHHELD = "DOCUMENTS_PASSPHRASE"


def environment() -> dict[str, str]:
    """Return this program's environment without the passphrase."""
    return {name: value for name, value in os.environ.items() if name != _WITHHELD}


@contextlib.contextmanager
def passphrase_withheld() -> Iterator[None]:
    """Take the passphrase out of the environment meanwhile, for a library that starts programs by itself."""
    given = os.environ.pop(_WITHHELD, None)
    try:
        yield
    finally:
        if given is not None:
            os.environ[_WITHHELD] = given
