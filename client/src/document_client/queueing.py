"""What a person does with requests on this device: ask, look, retry, edit, export, discard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from . import cache, requests, templates, withdrawals
from .account import Account, deciding_on
from .audit import Happening
from .clock import from_text, to_text
from .documents import record
from .errors import NotConfirmed, RequestStateWrong, RequestUnknown, StorageProblem, UsageProblem
from .files import write_private
from .ids import new_mutation_id
from .inputs import check_birth_date, check_inputs, check_reference, choose_locale, parse_assignments, to_bytes
from .localdb import has_moved, transaction
from .requests import Request


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asks for. ``inputs`` are typed values; ``assignments`` are ``name=value`` texts to be typed."""

    template: str
    patient: str
    encounter: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    assignments: tuple[str, ...] = ()
    locale: str | None = None
    birth_date: str | None = None
    identifier: str | None = None
    not_after: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checked wish: the members of the request's body that do not depend on when and under which id it is sent."""

    body: dict[str, Any]
    template_name: str


def prepare(account: Account, wish: Wish) -> Prepared:
    """Check a wish against the catalogue on this device; raises a UsageProblem that names what to mend."""
    chosen = templates.choose(account.cache, wish.template)
    definition = chosen.version.get("definition") or {}
    schema = definition.get("inputs") or {"type": "object", "additionalProperties": False}
    values = {**wish.inputs, **parse_assignments(wish.assignments, schema)}
    check_inputs(values, schema)
    body: dict[str, Any] = {
        "templateVersionId": chosen.version["id"],
        "patientId": check_reference(wish.patient, "Patient"),
        "inputs": values,
        "locale": choose_locale(wish.locale, definition),
    }
    if wish.encounter:
        body["encounterId"] = check_reference(wish.encounter, "Encounter")
    check = {}
    if wish.birth_date:
        check["birthDate"] = check_birth_date(wish.birth_date)
    if wish.identifier:
        check["identifier"] = wish.identifier
    if check:
        body["patientCheck"] = check
    if wish.not_after:
        try:
            not_after = from_text(wish.not_after)
            body["notAfter"] = to_text(not_after)
        except (ValueError, OverflowError):
            raise UsageProblem("--not-after must be an instant such as 2026-05-01T12:00:00Z") from None
        if not_after <= account.clock().now:
            raise UsageProblem("--not-after has passed; name a time to come, or leave it out")
    return Prepared(body, str(chosen.template.get("name")))


_TOO_LARGE = "DOCUMENT_TOO_LARGE"
# Named here because ``RequestQueue.list`` hides the built-in name inside the class.
_Shown = list[dict[str, Any]]


class RequestQueue:
    """The request queue of the signed-in user. Reached as ``DocumentClient.queue``."""

    def __init__(self, account: Callable[[], Account]) -> None:
        """Bind to a function that returns the opened account."""
        self._account = account

    def add(self, wish: Wish) -> dict[str, Any]:
        """Queue a request; it is durable when this returns. Raises a UsageProblem or StorageFull."""
        account = self._account()
        with account.watched():
            prepared = prepare(account, wish)
            with _deciding(account):
                cmid = self._insert(account, prepared)
            return _shown_whole(account, cmid)

    def list(self, *, given_up: bool = False) -> _Shown:
        """Return every kept request: those that need attention first, then the pending, then the others.

        ``given_up``: also those that were discarded, taken back or replaced in the last 60 days.
        """
        account = self._account()
        order = {"quarantined": 0, "failed": 0, "queued": 1, "sending": 1, "acknowledged": 2, "done": 3, "discarded": 4}
        with account.watched():
            found = [_seen(r, account) for r in requests.read_all(account.queue, given_up=given_up)]
        return [_shown(r) for r in sorted(found, key=lambda r: (order[r.state], r.sequence))]

    def alike(self, client_mutation_id: str) -> _Shown:
        """Return the other requests for the same form and patient that are not settled; raises RequestUnknown."""
        this = _find(self._account(), client_mutation_id)
        return [
            item
            for item in self.list()
            if (item["template"], item["patientId"]) == (this.template_name, this.patient_id)
            and item["clientMutationId"] != this.client_mutation_id
            and item["status"] not in ("done", "discarded")
        ]

    def show(self, client_mutation_id: str) -> dict[str, Any]:
        """Return one request with its body; raises RequestUnknown."""
        account = self._account()
        with account.watched():
            return _shown_whole(account, client_mutation_id)

    def retry(self, client_mutation_id: str) -> dict[str, Any]:
        """Queue a request again under the same id; the next sync sends it. Raises RequestStateWrong while pending."""
        account = self._account()
        return _shown_whole(account, _retry(account, client_mutation_id))

    def retry_all(self) -> _Shown:
        """Queue every quarantined or failed request again, but none that was taken back or replaced; returns them."""
        account = self._account()
        with account.watched():
            waiting = [r for r in requests.read_all(account.queue) if _seen(r, account).state in requests.ATTENTION]
        again = []
        for request in waiting:
            # One that a person gives up meanwhile is no error of this command.
            with suppress(RequestStateWrong):
                again.append(_retry(account, request.client_mutation_id, with_others=True))
        return [_shown_whole(account, cmid) for cmid in again]

    def edit(self, client_mutation_id: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a request that waits, was quarantined or failed by a new one with ``changes`` (fields of ``Wish``).

        The old one is given up as ``discard`` does it, its audit event included: by that the service knows that
        nobody wants it any more.
        """
        account = self._account()
        with account.watched():
            request = _find(account, client_mutation_id)
            _need_giving_up(request)
            _need_no_replacement(account, request)
            body = json.loads(request.body, parse_float=Decimal)
            check = body.get("patientCheck") or {}
            kept: dict[str, Any] = {
                "template": body["templateVersionId"],
                "patient": body["patientId"],
                "encounter": body.get("encounterId"),
                "inputs": body["inputs"],
                "locale": body["locale"],
                "birth_date": check.get("birthDate"),
                "identifier": check.get("identifier"),
                "not_after": body.get("notAfter"),
            }
            assignments = tuple(changes.get("assignments") or ())
            replaced = {pair.partition("=")[0] for pair in assignments}
            kept["inputs"] = {name: value for name, value in kept["inputs"].items() if name not in replaced}
            if (
                kept["not_after"]
                and not changes.get("not_after")
                and from_text(kept["not_after"]) <= account.clock().now
            ):
                raise UsageProblem("it was not wanted after a time that has passed; name one to come by --not-after")
            wish = Wish(**{**kept, **{k: v for k, v in changes.items() if v is not None}})
            prepared = prepare(account, wish)
            with _deciding(account):
                # Again, where no other command can replace it meanwhile: two replacements would be two documents.
                _need_no_replacement(account, _find(account, request.client_mutation_id))
                cmid = self._insert(account, prepared)
                self._give_up(account, request.client_mutation_id, replaced_by=cmid)
        return _shown_whole(account, cmid)

    def export(self, client_mutation_id: str, path: Path) -> dict[str, Any]:
        """Write a request's exact bytes to a private file, audited."""
        account = self._account()
        with account.watched():
            request = _find(account, client_mutation_id)
            if path.exists():
                raise UsageProblem(f"{path} exists; choose another name")
            if not path.parent.is_dir():
                raise UsageProblem(f"the folder {path.parent} does not exist")
            cmid = request.client_mutation_id
            record(account, Happening("request.exported", account.session.user, client_mutation_id=cmid))
        write_private(path, request.body)
        return _shown(request)

    def discard(self, client_mutation_id: str, *, confirmation: str) -> dict[str, Any]:
        """Give up a request that waits, was quarantined or failed; ``confirmation`` must be its id.

        Writes an audit event first. ``status`` is then ``discarded``, or ``quarantined`` while the request may have
        left this device: it is not sent again, and the next sync asks the service whether it has it.
        """
        account = self._account()
        with account.watched():
            cmid = _find(account, client_mutation_id).client_mutation_id
            if confirmation != cmid:
                raise NotConfirmed()
            with _deciding(account):
                self._give_up(account, cmid)
        return _shown_whole(account, cmid)

    def _give_up(self, account: Account, client_mutation_id: str, *, replaced_by: str | None = None) -> None:
        """Give a request up inside the caller's transaction, in which no drain can claim or settle it."""
        request, now = _find(account, client_mutation_id), account.clock().now
        _need_giving_up(request)
        record(account, Happening("request.discarded", account.session.user, client_mutation_id=client_mutation_id))
        if request.reason_code == _TOO_LARGE and request.document_id is not None:
            # Derived so far; now it is a decision.
            title = str(request.reason_title)
            requests.fail_undelivered(account.queue, [request.document_id], _TOO_LARGE, title, now)
        withdrawals.give_up(account.queue, client_mutation_id, now, replaced_by=replaced_by)

    def _insert(self, account: Account, prepared: Prepared) -> str:
        """Queue a request under a new id inside the caller's transaction; returns the id."""
        session, now, cmid = account.session, account.clock().now, new_mutation_id()
        body = {"clientMutationId": cmid, **prepared.body, "requestedAt": to_text(now)}
        requests.insert(
            account.queue,
            client_mutation_id=cmid,
            tenant_id=session.tenant,
            user_id=session.user,
            body=to_bytes(body),
            template_name=prepared.template_name,
            template_version_id=str(body["templateVersionId"]),
            patient_id=str(body["patientId"]),
            requested_at=now,
        )
        return cmid


@contextmanager
def _deciding(account: Account) -> Iterator[None]:
    """A transaction of the queue, as long as it is the one in use; StorageProblem where it was set aside meanwhile."""
    with deciding_on(account.folder / "queue.db"), transaction(account.queue):
        if has_moved(account.queue):
            raise StorageProblem("the queue was set aside by another program; nothing was done, run the command again")
        yield


def _retry(account: Account, client_mutation_id: str, *, with_others: bool = False) -> str:
    """Queue a request again; returns its id. ``with_others``: nobody named it, so that what was given up stays so.

    It is looked at where no other command can give it up meanwhile: what a person was told is not sent is not sent.
    """
    with account.watched():
        request = _find(account, client_mutation_id)
        if request.document_id is not None and request.state in requests.ATTENTION:
            # It was made, and could not be had: it is asked for again.
            with transaction(account.cache):
                cache.want(account.cache, request.document_id)
        with _deciding(account):
            request = _find(account, request.client_mutation_id)
            if request.state not in requests.ATTENTION and request.state != "acknowledged":
                # One that is done would leave its state of being settled, and could then be edited into a second.
                raise RequestStateWrong(f"the request is {request.state}")
            if with_others and (request.replaced_by or request.reason_code in withdrawals.TAKEN_BACK):
                raise RequestStateWrong("the request was taken back; name it to send it all the same")
            if request.reason_code != withdrawals.ALREADY_SENT:
                # What the service has can be kept; anything else would be made beside its replacement.
                _need_no_replacement(account, request)
            requests.retry(account.queue, request, account.clock().now)
    return request.client_mutation_id


def _find(account: Account, client_mutation_id: str) -> Request:
    """Return a request by its id or by the unique beginning of it."""
    found = requests.read(account.queue, client_mutation_id)
    if found is None and len(client_mutation_id) >= 4:
        kept = requests.read_all(account.queue, given_up=True)
        matches = [r for r in kept if r.client_mutation_id.startswith(client_mutation_id)]
        found = matches[0] if len(matches) == 1 else None
    if found is None:
        raise RequestUnknown(f"{client_mutation_id} is not in the queue")
    return _seen(found, account)


def _need_no_replacement(account: Account, request: Request) -> None:
    """Raise RequestStateWrong while the request that replaced this one, or replaced that in turn, is not given up.

    One that was edited after it may have left stays ``quarantined`` until the service was asked; its replacement is
    queued meanwhile.
    """
    newest = withdrawals.read_replacement(account.queue, request.client_mutation_id)
    if newest is not None:
        raise RequestStateWrong(f"the request was replaced by {newest}; edit or discard that one")


def _shown_whole(account: Account, client_mutation_id: str) -> dict[str, Any]:
    request = _find(account, client_mutation_id)
    return {**_shown(request), "request": json.loads(request.body)}


def _seen(request: Request, account: Account) -> Request:
    """Return the request as a person should see it: one whose document can never fit here needs a decision.

    Derived, not written down: when the policy gives more room the document comes by itself.
    """
    if request.state != "acknowledged" or request.document_id is None:
        return request
    policy = account.policy()
    size = cache.read_oversized(account.cache, policy).get(request.document_id)
    if size is None:
        return request
    title = (
        f"The document has {size} bytes; this device may keep {policy.quota}. Ask for more room, or get it elsewhere."
    )
    return replace(request, state="failed", reason_code=_TOO_LARGE, reason_title=title)


def _need_giving_up(request: Request) -> None:
    if request.state == "acknowledged":
        raise RequestStateWrong("the service has the request; when its document is here and wrong, have it withdrawn")
    if request.state == "discarded":
        newer = f" and replaced by {request.replaced_by}" if request.replaced_by else ""
        raise RequestStateWrong(f"the request was given up before{newer}; it is not sent")
    if request.state not in (*requests.PENDING, *requests.ATTENTION):
        raise RequestStateWrong(f"the request is {request.state}; there is nothing left to take back")


def _shown(request: Request) -> dict[str, Any]:
    reason = {"code": request.reason_code, "title": request.reason_title} if request.reason_code else None
    return {
        "clientMutationId": request.client_mutation_id,
        "status": request.state,
        "jobId": request.job_id,
        "jobStatus": request.job_status,
        "documentId": request.document_id,
        "replacedBy": request.replaced_by,
        "reason": reason,
        "template": request.template_name,
        "templateVersionId": request.template_version_id,
        "patientId": request.patient_id,
        "requestedAt": to_text(request.requested_at),
        "failures": request.failures,
        "tries": request.tries,
        "notBefore": to_text(request.not_before) if request.not_before else None,
    }
