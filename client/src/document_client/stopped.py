"""Why a run stopped, as the error of the class that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import errors

if TYPE_CHECKING:
    from .cycle import Report

_KINDS: dict[str, type[errors.ClientError]] = {
    "NO_CONNECTION": errors.ServerUnreachable,
    "NOT_THE_SERVICE": errors.NotTheService,
    "TLS_FAILED": errors.TlsFailed,
    "SIGN_IN": errors.TokenRefused,
    "DEVICE_REVOKED": errors.DeviceRevoked,
    "SERVER_BUSY": errors.ServerBusy,
    "SERVER_FAILING": errors.ServerBusy,
    "SERVER_REFUSED": errors.ServerRefused,
}


def raise_stop(report: Report) -> None:
    """Raise the error of the class that fits why a run stopped."""
    raise _KINDS.get(report.stopped or "", errors.Unavailable)(report.detail or None, reason=report.stopped)
