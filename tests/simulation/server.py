"""The executable model of the service, made quick: the same rules, cheaper bookkeeping.

``document_client.model.Model`` signs a policy for every page and copies its state deeply for every backup; a
simulation cannot afford 200 µs for either. Nothing here decides differently from the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from document_client.clock import to_text
from document_client.model import Caller, Model, ModelAnswer
from document_client.model.batch import submit_batch
from document_client.model.rules import JOBS, POLICY, State
from document_client.model.transport import describe
from document_client.model.wire import problem, public, unless_known

BATCH = f"{JOBS}/batch"
DEFINITION: dict[str, Any] = {"language": 1, "locales": ["en"]}
_SIGNER, _STRANGER = Model(lambda: 0.0), Model(lambda: 0.0)
_STRANGER.key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"another key").digest())
#: What a device has pinned since sign-in.
POLICY_KEYS = {k["kid"]: k["publicKey"] for k in describe(_SIGNER).body["policyKeys"]}
#: How long copies may be read by a policy that does not count.
ENDLESS = {**POLICY, "cacheTtlSeconds": 10**9, "leaseSeconds": 10**9}


class Rule(dict[str, Any]):
    """A prefetch rule as it is on the wire; policies are remembered by their content, so it has a hash."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash((tuple(self["categories"]), self["days"], self["maxBytes"]))


#: No tenant of the simulation has such a rule: a device that follows it believed a policy that nobody signed.
EVERYTHING = Rule(categories=[], days=3_650, maxBytes=10**8)
ENDLESS["prefetch"] = EVERYTHING
_SIGNED: dict[tuple[str, tuple[Any, ...]], dict[str, Any]] = {}
_DATES: dict[int, str] = {}
#: ``JSONEncoder`` makes this anew for every call, which costs more than to write an event.
_ENCODE = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
    None, None, json.encoder.encode_basestring, None, ":", ",", True, False, True
)
#: The members of a row that only the model knows.
_PRIVATE = ("_tenant", "_user", "_facilities")


@lru_cache(maxsize=16)
def false_policy(kind: str, tenant: str) -> dict[str, Any]:
    """Return a policy that a device of ``tenant`` must not believe: signed by another key, or for another tenant."""
    signer = _STRANGER if kind == "policy of another key" else _SIGNER
    signer.policy = dict(ENDLESS)
    return signer.signed_policy("elsewhere" if kind == "policy of another tenant" else tenant)


@lru_cache(maxsize=1024)
def _parsed(content: bytes) -> Any:
    """Return a request's body; the model does not change it."""
    return json.loads(content)


class Server(Model):
    """One service in memory. ``device_revoked``: the device's token is answered 403 DEVICE_REVOKED."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Begin empty; pages of two rows, so that crashes between pages are common."""
        self.now = now
        self.page_size = 2
        self.state = State()
        self.policy = dict(POLICY)
        self.renders_at_once = True
        self.revoked_tokens = set()
        self.broken_patients: set[str] = set()
        self.failing = self._fails
        self.device_revoked = False
        self.takes_batches = True
        self.epochs = 1
        #: A backup of database and store together was put back, and nothing on the service can know.
        self.unnoticed = False
        self.restores = 0
        self.made: dict[str, str] = {}
        self.arrived: dict[str, float] = {}

    def _fails(self, job: dict[str, Any]) -> dict[str, str] | None:
        if job["patientId"] in self.broken_patients:
            return {"code": "PATIENT_UNKNOWN", "title": "There is no such patient."}
        return None

    def _document(self, job: dict[str, Any]) -> dict[str, Any]:
        document = super()._document(job)
        self.made[document["id"]] = job["clientMutationId"]
        return document

    def refuses(self, caller: Caller, content: bytes) -> bool:
        """Return whether a request that is not known yet would be refused."""
        return self._refusal(caller, json.loads(content)) is not None

    def make_elsewhere(self, tenant: str, version: str, cmid: str, category: str, age: float) -> None:
        """Let somebody of ``tenant`` make a document at another device, some seconds ago."""
        body = {"clientMutationId": cmid, "templateVersionId": version, "patientId": "p9", "inputs": {}, "locale": "en"}
        body["requestedAt"] = to_text(self.now())
        job = self.submit(Caller(tenant, "colleague"), body, None).body
        document = self.state.documents.get(self.state.jobs.get(job.get("id"), {}).get("documentId") or "")
        if document is not None:
            document.update(category=category, renderedAt=to_text(self.now() - age))

    def snapshot(self) -> State:
        """Return a backup: rows are copied, for only they change."""
        old = self.state
        new = State(old.epoch, counter=old.counter)
        for table in ("jobs", "dedup", "templates", "versions", "documents"):
            setattr(new, table, {key: dict(row) for key, row in getattr(old, table).items()})
        new.contents, new.events, new.devices = dict(old.contents), dict(old.events), dict(old.devices)
        new.feed, new.revocations = list(old.feed), list(old.revocations)
        return new

    def put_back(self, backup: State) -> None:
        """Put a backup back, and nothing knows; ids made after the backup are never made again."""
        before, self.state = self.state, backup
        self.state = self.snapshot()
        self.state.epoch, self.state.counter = before.epoch, before.counter
        self.unnoticed = True
        self.restores += 1

    def renew_epoch(self) -> None:
        """Take a new epoch: a restore has been noticed, or somebody has announced one."""
        self.epochs += 1
        self.state.epoch, self.unnoticed = f"epoch-{self.epochs}", False

    def signed_policy(self, tenant: str) -> dict[str, Any]:
        """Return the policy as the model signs it; each content is signed once."""
        key = (tenant, tuple(self.policy.items()))
        signed = _SIGNED.get(key)
        if signed is None:
            _SIGNER.policy = dict(self.policy)
            signed = _SIGNED[key] = _SIGNER.signed_policy(tenant)
        return signed

    def take_events(self, body: Any) -> ModelAnswer:
        """Answer as the model does; the canonical form of events is written by the quicker encoder."""
        items = []
        known = self.state.events
        for event in body["events"]:
            event_id = event.get("eventId")
            if not event_id or hash_event(event) != event.get("hash"):
                result = "refused"
            elif event_id in known:
                result = "duplicate"
            else:
                known[event_id] = event
                self.arrived.setdefault(event_id, self.now())
                result = "accepted"
            items.append({"eventId": event_id, "result": result})
        return ModelAnswer(200, {"items": items})

    def answer(self, caller: Caller | None, method: str, path: str, content: bytes, cmid: str | None) -> ModelAnswer:
        """Answer one exchange; ``caller`` None is a token that is not valid any more."""
        if path.endswith("/content?signature=model"):
            raise AssertionError("bytes go by download()")
        if caller is None:
            return problem(401, "NOT_AUTHENTICATED", "Sign in again.")
        if self.device_revoked:
            return problem(403, "DEVICE_REVOKED", "This device was revoked.")
        if method == "GET":
            return self._read(caller, path)
        if path == JOBS:
            body = _parsed(content)
            return self.submit(caller, body, cmid)
        if path == BATCH:
            if not self.takes_batches:
                return problem(404, "NOT_FOUND", "There is no such address.")
            return submit_batch(self, caller, json.loads(content))
        if path.endswith("/download-url"):
            return self.document_url(caller, path.split("/")[3])
        if path.endswith("/audit-events"):
            return self.take_events(json.loads(content))
        if path.endswith("/lookup"):
            return self.lookup(caller, json.loads(content))
        return self.retry(caller, path.split("/")[4])

    def _read(self, caller: Caller, path: str) -> ModelAnswer:
        if path.startswith("/v1/documents/changes?cursor="):
            cursor, _, mark = path[29:].replace("%3A", ":").partition("&policy=")
            return unless_known(self.changes(caller, cursor), cursor, mark)
        if path.startswith("/v1/document-templates?"):
            items = [public(t) for t in self.state.templates.values()]
            return ModelAnswer(200, {"items": items, "nextCursor": None}, {"cache-control": "max-age=300"})
        return self.read_version(caller, path.rsplit("/", 1)[1])

    def changes(self, caller: Caller, cursor: str) -> ModelAnswer:
        """Answer as the model does, in one walk over the rows of a page."""
        state = self.state
        epoch, _, position = cursor.rpartition(":")
        if cursor and epoch != state.epoch:
            return problem(410, "FEED_RESET")
        start, tenant = int(position or 0), caller.tenant
        if start > len(state.feed):
            # The device has read a change that is not here any more: it is the witness of a restore.
            self.renew_epoch()
            return problem(410, "FEED_RESET")
        rows = state.feed[start : start + self.page_size]
        end = start + len(rows)
        page: dict[str, Any] = {"cursor": f"{state.epoch}:{end}", "more": end < len(state.feed)}
        page["revocations"] = [
            {"documentId": document_id, "reason": reason}
            for at, document_id, reason in state.revocations
            if at >= start and state.documents[document_id]["_tenant"] == tenant
        ]
        found: dict[str, dict[str, Any]] = {"templates": {}, "jobs": {}, "documents": {}}
        for kind, key, owner in rows:
            if (owner is not None and owner != tenant) or key in found[kind]:
                continue
            row = getattr(state, kind)[key]
            if kind == "jobs" and row["_user"] != caller.user:
                continue
            if kind == "documents" and row["status"] == "entered-in-error":
                continue
            shown = found[kind][key] = row.copy()
            for name in _PRIVATE:
                shown.pop(name, None)
        for kind, shown in found.items():
            page[kind] = list(shown.values())
        page["cachePolicy"] = self.signed_policy(tenant)
        return ModelAnswer(200, page)

    def stamp(self) -> dict[str, str]:
        """Return the headers that every answer of the service carries, with names in lower case."""
        second = int(self.now())
        date = _DATES.get(second)
        if date is None:
            if len(_DATES) > 10_000:
                _DATES.clear()
            date = _DATES[second] = formatdate(second, usegmt=True)
        return {"x-sync-epoch": self.state.epoch, "date": date}


def hash_event(event: dict[str, Any]) -> str:
    """Return an event's hash as the service takes it; for these, sorted compact JSON *is* the RFC 8785 form."""
    bare = event.copy()
    bare.pop("hash", None)
    bare.pop("recovered", None)
    return hashlib.sha256("".join(_ENCODE(bare, 0)).encode()).hexdigest()


__all__ = ["BATCH", "DEFINITION", "JOBS", "Caller", "Server", "hash_event"]
