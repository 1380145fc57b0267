"""Every way in which the client can refuse or fail, in one tree; the exit code of a command is its class's.

    ClientError
    ├── UsageProblem          64  the command or its values can be mended by the person who typed them
    ├── Unavailable           69  the server, the network or a device cannot do it now
    ├── StorageProblem        73  this machine's disk or one of the local files
    ├── TryAgainLater         75  nothing is wrong; something has to happen first
    ├── SignInNeeded          77  a session, a token or the passphrase
    └── Misconfigured         78  keys, addresses, settings

``code`` is stable and meant for programs; ``title`` says in plain words what happened and what to do. Neither
holds patient data: ids, file names and field names only (contract §2 and §5).
"""

from __future__ import annotations

from typing import ClassVar


class ClientError(Exception):
    """The root of everything this package raises on purpose."""

    code: ClassVar[str] = "CLIENT_ERROR"
    title: ClassVar[str] = "The command could not be done."
    exit_code: ClassVar[int] = 69

    def __init__(
        self, detail: str | None = None, *, errors: tuple[tuple[str, str], ...] = (), reason: str | None = None
    ) -> None:
        """Keep ``detail`` (a sentence), ``errors`` as (JSON pointer, remedy) pairs and the server's ``reason`` code."""
        super().__init__(detail or self.title)
        self.detail = detail
        self.errors = errors
        self.reason = reason

    def as_json(self) -> dict[str, object]:
        """Return the error as the ``--json`` output shows it."""
        shown: dict[str, object] = {"code": self.code, "title": self.title, "detail": self.detail}
        if self.reason:
            shown["reason"] = self.reason
        if self.errors:
            shown["errors"] = [{"pointer": pointer, "title": title} for pointer, title in self.errors]
        return shown


# --- 64: what was typed ---------------------------------------------------------------------------------------


class UsageProblem(ClientError):
    code = "USAGE"
    title = "The command does not fit; see the detail for what to change."
    exit_code = 64


class TemplateUnknown(UsageProblem):
    code = "TEMPLATE_UNKNOWN"
    title = "No template with this id, name or form key is in the catalogue on this device; see `documents templates`."


class TemplateAmbiguous(UsageProblem):
    code = "TEMPLATE_AMBIGUOUS"
    title = "Several templates have this name; use the template's id."


class TemplateNotInUse(UsageProblem):
    code = "TEMPLATE_NOT_IN_USE"
    title = "This template is not published any more; choose another one."


class TemplateIsDraft(UsageProblem):
    code = "TEMPLATE_IS_DRAFT"
    title = "This template is a draft that was never published; publish it first, or choose another one."


class InputsInvalid(UsageProblem):
    code = "INPUTS_INVALID"
    title = "The inputs do not fit the template; each problem names its field."


class LocaleUnsupported(UsageProblem):
    code = "LOCALE_UNSUPPORTED"
    title = "The template has no text in this language."


class NoDeviceSignIn(UsageProblem):
    code = "NO_DEVICE_SIGN_IN"
    title = "This service names no sign-in page; give a token with --token T (- reads it from standard input)."


class NothingToRecover(UsageProblem):
    code = "NOTHING_TO_RECOVER"
    title = "Nothing that was set aside on this device can be opened this way; see `documents doctor`."


class RequestUnknown(UsageProblem):
    code = "REQUEST_UNKNOWN"
    title = "No request with this id is in the queue of this device."


class RequestStateWrong(UsageProblem):
    code = "REQUEST_STATE_WRONG"
    title = "The request is not in a state that allows this."


class DocumentUnknown(UsageProblem):
    code = "DOCUMENT_UNKNOWN"
    title = "No document with this id is known on this device; see `documents list`."


class NotConfirmed(UsageProblem):
    code = "NOT_CONFIRMED"
    title = "Nothing was discarded: the confirmation must be the request's id."


class FileUnreadable(UsageProblem):
    code = "FILE_UNREADABLE"
    title = "The file cannot be read."


# --- 69: the server, the network, a device --------------------------------------------------------------------


class Unavailable(ClientError):
    code = "UNAVAILABLE"
    title = "The service cannot be reached at the moment; what is queued stays queued."
    exit_code = 69


class ServerUnreachable(Unavailable):
    code = "SERVER_UNREACHABLE"
    title = "There is no connection to the service; what is queued stays queued and is sent when there is one."


class IssuerUnreachable(Unavailable):
    code = "ISSUER_UNREACHABLE"
    title = "The sign-in server cannot be reached at the moment; nothing was changed here."


class ServiceNotThere(ServerUnreachable):
    code = "SERVICE_NOT_THERE"
    title = "Nothing answers at the address of the service; check the address and the network."


class NotTheService(Unavailable):
    code = "NOT_THE_SERVICE"
    title = "This network or address is not the service; perhaps it wants you to sign in first."


class TlsFailed(Unavailable):
    code = "TLS_FAILED"
    title = "The secure connection could not be made; check the date and time of this device."


class OnlineOnly(Unavailable):
    code = "ONLINE_ONLY"
    title = "This can only be done while connected to the service; nothing was stored or queued."


class ServerRefused(Unavailable):
    code = "SERVER_REFUSED"
    title = "The service refused this."


class DocumentRevoked(Unavailable):
    code = "DOCUMENT_REVOKED"
    title = "The document was withdrawn and its copy removed from this device; throw away printed copies."


class PrinterUnavailable(Unavailable):
    code = "PRINTER_UNAVAILABLE"
    title = "No printer took the document; the attempt is recorded."


class StampFailed(Unavailable):
    code = "STAMP_FAILED"
    title = "The copy could not be stamped as the policy asks, so it was not printed; the attempt is recorded."


class ViewerUnavailable(Unavailable):
    code = "VIEWER_UNAVAILABLE"
    title = "No program to show PDF files was found; use `documents save` or name one with --viewer."


class ViewerSilent(ViewerUnavailable):
    code = "VIEWER_SILENT"
    title = "The program was started and did not ask for the document; it must open a URL. See also --stdin."


# --- 73: this machine's storage -------------------------------------------------------------------------------


class StorageProblem(ClientError):
    code = "STORAGE"
    title = "A local file could not be written."
    exit_code = 73


class StorageFull(StorageProblem):
    code = "STORAGE_FULL"
    title = (
        "The disk of this device is full; this was not stored, and what was queued before is untouched. Free "
        "space and repeat."
    )


class LocalFileUnreadable(StorageProblem):
    code = "LOCAL_FILE_UNREADABLE"
    title = "A local database cannot be read with its key."


class QueueSetAside(StorageProblem):
    code = "QUEUE_SET_ASIDE"
    title = (
        "A file of requests, or of records of opening and printing, cannot be read. It was set aside, not deleted; a "
        "new one is in use. `documents doctor` says what helps."
    )


# --- 75: later ------------------------------------------------------------------------------------------------


class TryAgainLater(ClientError):
    code = "TRY_AGAIN_LATER"
    title = "Try again later."
    exit_code = 75


class AnotherSyncRuns(TryAgainLater):
    code = "ANOTHER_SYNC_RUNS"
    title = "Another program is sending the requests of this user right now."


class LeaseLost(TryAgainLater):
    code = "LEASE_LOST"
    title = "Another program took over sending; this one stopped without changing anything."


class ServerBusy(TryAgainLater):
    code = "SERVER_BUSY"
    title = "The service is busy and asked to wait; what is queued stays queued."


class NotNow(TryAgainLater):
    code = "NOT_NOW"
    title = "The service cannot do this now; try again later. Nothing was queued."


class PendingRequests(TryAgainLater):
    code = "PENDING_REQUESTS"
    title = (
        "Signing out now would leave or lose what the detail names. Sync, decide or save first, or choose"
        " --keep-sealed (requests wait here, sealed) or --discard-pending."
    )


class EvidenceWaits(TryAgainLater):
    code = "EVIDENCE_WAITS"
    title = "Nobody is signed in, and records of opening and printing are still here; they are sent with a connection."


class KeysChanged(TryAgainLater):
    code = "KEYS_CHANGED"
    title = "Another program changed this device's keys (`documents rekey`) just now; run the command again."


class DocumentExpired(TryAgainLater):
    code = "DOCUMENT_EXPIRED"
    title = "The copy on this device has expired; connect and sync to refresh it."


class CacheLocked(TryAgainLater):
    code = "CACHE_LOCKED"
    title = (
        "This device has not been in contact with the service for too long, so its documents are locked; "
        "connect and sync."
    )


class DocumentNotHere(TryAgainLater):
    code = "DOCUMENT_NOT_HERE"
    title = "The document's bytes are not on this device; connect and sync to fetch them."


# --- 77: who you are ------------------------------------------------------------------------------------------


class SignInNeeded(ClientError):
    code = "SIGN_IN_NEEDED"
    title = "Nobody is signed in on this device; use `documents login --server URL --token TOKEN`."
    exit_code = 77


class EvidenceSent(SignInNeeded):
    code = "EVIDENCE_SENT"
    title = (
        "The records of opening and printing that were here are sent. Nobody is signed in, so nothing else was done;"
        " use `documents login`."
    )


class EvidenceNeedsSignIn(SignInNeeded):
    code = "EVIDENCE_NEEDS_SIGN_IN"
    title = "Records of opening and printing wait for a sign-in with a connection; this device is not enrolled yet."


class TokenRefused(SignInNeeded):
    code = "TOKEN_REFUSED"
    title = "The service wants you to sign in again; what is queued stays queued."


class DeviceRevoked(SignInNeeded):
    code = "DEVICE_REVOKED"
    title = (
        "The service revoked this device: the documents on it were removed, what is queued stays sealed."
        " Ask your administrator."
    )


class TokenUnreadable(SignInNeeded):
    code = "TOKEN_UNREADABLE"
    title = "The token is not a JSON Web Token with a tenant and a user in it."


class SignInRefused(SignInNeeded):
    code = "SIGN_IN_REFUSED"
    title = "The sign-in was refused or cancelled at the sign-in page; nothing was changed here."


class SignInExpired(SignInNeeded):
    code = "SIGN_IN_EXPIRED"
    title = "The code was not typed at the sign-in page in time; start `documents login` again."


class PassphraseNeeded(SignInNeeded):
    code = "PASSPHRASE_NEEDED"
    title = (
        "This device's keys are locked; set DOCUMENTS_PASSPHRASE or run the command in a terminal to be asked"
        " for the passphrase."
    )


class PassphraseWrong(SignInNeeded):
    code = "PASSPHRASE_WRONG"
    title = "The passphrase is wrong. Nothing was changed."


class PassphraseDelayed(SignInNeeded):
    code = "PASSPHRASE_DELAYED"
    title = "Too many wrong passphrases; wait before the next try."


# --- 78: configuration ----------------------------------------------------------------------------------------


class Misconfigured(ClientError):
    code = "MISCONFIGURED"
    title = "A setting is wrong."
    exit_code = 78


class KeyFileMissing(Misconfigured):
    code = "KEY_FILE_MISSING"
    title = (
        "The key file of this device is missing. Put it back from a copy, or sign in again: unreadable queues"
        " are then set aside, never deleted."
    )


class KeyFileUnreadable(Misconfigured):
    code = "KEY_FILE_UNREADABLE"
    title = "The key file of this device is damaged; put it back from a copy."


class KeyringLost(Misconfigured):
    code = "KEYRING_LOST"
    title = "The operating system's keyring does not hold this device's key any more; unlock the keyring or restore it."


class KeyringMissing(Misconfigured):
    code = "KEYRING_MISSING"
    title = "This machine has no keyring that seals secrets; nothing was changed. Use a passphrase."


class ServerAddressWrong(Misconfigured):
    code = "SERVER_ADDRESS_WRONG"
    title = "The server's address must be an http or https URL."


class HomeUnusable(Misconfigured):
    code = "HOME_UNUSABLE"
    title = "The home folder of the client cannot be used."


# --- What the service says ------------------------------------------------------------------------------------


def join_detail(title: object, detail: object) -> str:
    """Return a problem's title followed by its detail, when that says more; either may be missing."""
    first, more = str(title or ""), str(detail or "")
    return more if more.startswith(first) else first if more in first else f"{first} {more}"
