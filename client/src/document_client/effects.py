"""What the sync engine asks the world to do: one small value for each thing, with the type of what comes back.

Disk effects are one transaction each; network effects are one exchange each. The engine (``sync``) yields them and is
sent their outcome; ``driver`` performs them on real files and a real network, a simulation on models of both. Nobody
writes to one that is made; they are not frozen because a frozen dataclass takes three times as long to make, and the
simulation makes a thousand million of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Effect:
    """The root of all effects; the comment of each says what comes back."""


# --- The queue on the disk ------------------------------------------------------------------------------------


@dataclass(slots=True)
class BeginRun(Effect):
    """Take the drain lease and note the attempt → ``Began``, or None while another program drains."""


@dataclass(slots=True)
class Began:
    """What a run starts from: the epoch last known, and whether the catalogue was ever fetched."""

    epoch: str | None
    has_catalogue: bool


@dataclass(slots=True)
class Claim(Effect):
    """Mark the next due request as being sent → ``Item`` or None."""

    skip: Sequence[str]


@dataclass(slots=True)
class Item:
    """A claimed request, as far as the engine needs it."""

    cmid: str
    body: bytes
    operation: str
    job_id: str | None
    tries: int
    failures: int


@dataclass(slots=True)
class Acknowledge(Effect):
    """Record the job that answered a request → None."""

    cmid: str
    job: Mapping[str, Any]
    epoch: str | None


@dataclass(slots=True)
class Postpone(Effect):
    """Put a request back until ``not_before`` → None."""

    cmid: str
    not_before: float
    counted: bool
    server_said: bool


@dataclass(slots=True)
class PutBack(Effect):
    """Put a request back unchanged → None."""

    cmid: str


@dataclass(slots=True)
class Quarantine(Effect):
    """Keep a refused request for a person's decision → None."""

    cmid: str
    code: str
    title: str


@dataclass(slots=True)
class ReadPromised(Effect):
    """→ the ids that a server before ``epoch`` acknowledged, as a list."""

    epoch: str


@dataclass(slots=True)
class ReadWithdrawn(Effect):
    """→ the ids that were taken back and may have reached the server, as a list."""


@dataclass(slots=True)
class SettleLookup(Effect):
    """Confirm the known, offer the unknown again but those taken back, in one transaction → how many are offered."""

    items: Sequence[Mapping[str, Any]]
    epoch: str | None


@dataclass(slots=True)
class SaveEpoch(Effect):
    """Offer the audit events again, which a restored server may have lost; remember its epoch → None."""

    epoch: str


@dataclass(slots=True)
class Reconcile(Effect):
    """Mark requests as done whose document is here, as failed whose document was withdrawn → how many became done."""


@dataclass(slots=True)
class EndRun(Effect):
    """Let go of the lease; a cycle without an error that leaves nothing queued is noted → whether it was a success.

    Whether something is queued is asked in the transaction that notes the success: a person may ask for a document
    between any two effects.
    """

    whole: bool
    stopped: str | None


@dataclass(slots=True)
class CountDue(Effect):
    """→ how many queued requests could be sent now, apart from those in ``skip``."""

    skip: Sequence[str]


# --- The cache on the disk ------------------------------------------------------------------------------------


@dataclass(slots=True)
class ReadCursor(Effect):
    """→ the cursor of the change feed."""


@dataclass(slots=True)
class ApplyPage(Effect):
    """Check the policy, apply revocations, then the page with its cursor → None. ``server_time`` is the contact.

    ``asked_from`` is the cursor that the page was asked for with: it is only applied while that is still the one here.
    """

    page: Mapping[str, Any]
    server_time: float | None
    asked_from: str


@dataclass(slots=True)
class StartFeedAgain(Effect):
    """Begin a whole listing from an empty cursor → None."""


@dataclass(slots=True)
class ReadMissingVersions(Effect):
    """→ (template id, version id) pairs whose definition is not here."""


@dataclass(slots=True)
class SaveVersion(Effect):
    """Keep one frozen template version → None."""

    template_id: str
    version: Mapping[str, Any]
    etag: str | None


@dataclass(slots=True)
class SaveTemplates(Effect):
    """Replace the catalogue by a whole list → None."""

    items: Sequence[Mapping[str, Any]]
    etag: str | None
    cache_control: str


@dataclass(slots=True)
class ReadListTag(Effect):
    """→ the ETag of the catalogue as it was last fetched, or None."""


@dataclass(slots=True)
class TouchTemplates(Effect):
    """The server confirmed the catalogue that is here (304) → None."""

    cache_control: str


@dataclass(slots=True)
class ReadWanted(Effect):
    """→ ``Wanted`` documents in the order in which they should be fetched."""


@dataclass(slots=True)
class Wanted:
    """A document to fetch; ``here``: only its freshness is in question. ``received`` bytes are here already."""

    document_id: str
    size: int
    sha256: str
    here: bool
    received: int


@dataclass(slots=True)
class ReadBeforehand(Effect):
    """→ what the policy's prefetch rule wants fetched or confirmed, as a list of ``Wanted``."""


@dataclass(slots=True)
class Complete(Effect):
    """Verify a finished download and make it visible → True when length and SHA-256 agreed."""

    document_id: str


@dataclass(slots=True)
class Renew(Effect):
    """The server confirmed the bytes that are here → None."""

    document_id: str


@dataclass(slots=True)
class DropParts(Effect):
    """Forget an unfinished download → None."""

    document_id: str


@dataclass(slots=True)
class FailDelivery(Effect):
    """The server will not give the document: tell the person who asked for it → None.

    ``withdrawn``: for good, the copy goes too. Otherwise it is not asked for again until the person does.
    """

    document_id: str
    code: str
    title: str
    withdrawn: bool


# --- The audit outbox -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class ReadEvents(Effect):
    """→ the oldest events that the server does not have, as ``Offer``."""


@dataclass(slots=True)
class Offer:
    """Events as they are sent, and how often all were offered again before that."""

    number: int
    events: list[dict[str, Any]]


@dataclass(slots=True)
class MarkEvents(Effect):
    """Record the server's answer for each (event id, status) to an offer → whether it still counts."""

    results: Sequence[tuple[str, str]]
    offer: int


@dataclass(slots=True)
class PurgeCopies(Effect):
    """The service revoked this device: make every cached document unreadable → how many there were."""


# --- The network ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Post(Effect):
    """Send bytes → ``Answer``."""

    path: str
    content: bytes
    cmid: str | None = None


@dataclass(slots=True)
class PostSigned(Effect):
    """Send audit events under the device's own signature, without a session → ``Answer``."""

    path: str
    content: bytes


@dataclass(slots=True)
class Get(Effect):
    """Read → ``Answer``."""

    path: str
    etag: str | None = None


@dataclass(slots=True)
class Fetch(Effect):
    """Download a document's bytes into its parts → ``Transfer``."""

    url: str
    document: Wanted


@dataclass(slots=True)
class RefreshToken(Effect):
    """Get a new token if the session can → True when there is one."""
