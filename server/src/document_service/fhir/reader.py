"""The walk of one job's reading: plan, fetch, check, follow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from document_service.errors import (
    DataIncomplete,
    FhirInvalid,
    FhirUnavailable,
    PatientInactive,
    PatientUnknown,
    ResourceUnknown,
    WrongPatient,
)
from document_service.exact_json import dumps_exact
from document_service.fhir.batch import BatchReader, gather_few
from document_service.fhir.compartment import (
    Resource,
    elements,
    is_of_encounter,
    require_patient,
    resolve,
)
from document_service.fhir.connections import Connections
from document_service.fhir.exchange import Answer, Exchange, Limits, require_success
from document_service.fhir.reads import Follow, Plan, Read, plan
from document_service.fhir.searchset import read_searchset, require_whole
from document_service.identifiers import FHIR_ID


@dataclass(frozen=True, slots=True)
class FhirSnapshot:
    """What a job's form was filled from.

    ``resources`` has one entry for each of the definition's context: a resource, None, or a list for a search; numbers
    are Decimal or int. ``patient`` and ``encounter`` (None when the request names none) are there whatever the context
    says. ``as_of`` is when reading began, so nothing in the snapshot is newer than a change made after it.
    ``provenance`` lists ``{type, id, versionId}`` of every resource, sorted.
    """

    resources: dict[str, Any]
    patient: Resource
    encounter: Resource | None
    as_of: datetime
    provenance: list[dict[str, str | None]]

    @property
    def facility(self) -> str | None:
        """The id of the organisation that provides the encounter: the facility that a document of it belongs to."""
        reference = ((self.encounter or {}).get("serviceProvider") or {}).get("reference")
        if isinstance(reference, str) and reference:
            return reference.split("/_history/")[0].rsplit("/", 1)[-1]
        return None

    def resources_json(self) -> bytes:
        """Serialise ``resources`` with the digits of the record; FhirInvalid when they nest absurdly deep."""
        try:
            return dumps_exact(self.resources)
        except ValueError:
            raise FhirInvalid("A resource is nested too deeply.") from None


class FhirReader:
    """Reads from tenants' FHIR R4 servers; one for the process, shared between jobs and tenants."""

    def __init__(
        self,
        limits: Limits | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Open nothing yet; to be called in a running event loop."""
        self._limits = limits or Limits()
        self._connections = Connections(self._limits.connect, self._limits.silence)
        self._now = now
        self._batches = BatchReader(self._limits)

    async def aclose(self) -> None:
        """Close the connections that this reader opened."""
        await self._connections.aclose()

    async def read(
        self,
        base_url: str,
        token: str | None,
        context: Mapping[str, Mapping[str, Any]],
        patient_id: str,
        encounter_id: str | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> FhirSnapshot:
        """Read everything that ``context`` asks for, or raise; there is no snapshot of a part.

        Raises FhirUnavailable (may pass), FhirRefused, FhirInvalid, PatientUnknown, PatientInactive, ResourceUnknown,
        DataIncomplete, WrongPatient, RenderTooLarge, and BindingFailed for a context that cannot be read as written.
        """
        if not FHIR_ID.fullmatch(patient_id):
            raise PatientUnknown("patientId does not have the shape of a FHIR id.")
        if encounter_id is not None and not FHIR_ID.fullmatch(encounter_id):
            raise ResourceUnknown("encounterId does not have the shape of a FHIR id.")
        planned = plan(context, patient_id, encounter_id, inputs or {})
        exchange = Exchange(self._connections, base_url, token, self._limits)
        as_of = self._now()
        try:
            async with asyncio.timeout(self._limits.total):
                reading = _Reading(exchange, self._batches, self._limits, patient_id, encounter_id)
                await reading.run(planned)
        except TimeoutError:
            raise FhirUnavailable(f"The FHIR server took longer than {self._limits.total:g} s in all.") from None
        assert reading.patient is not None  # run() raises when the patient is not there.
        return FhirSnapshot(
            {name: reading.resources[name] for name in context},
            reading.patient,
            reading.encounter,
            as_of,
            _provenance(reading),
        )


class _Reading:
    """The state of one job's reading."""

    def __init__(
        self,
        exchange: Exchange,
        batches: BatchReader,
        limits: Limits,
        patient_id: str,
        encounter_id: str | None,
    ) -> None:
        self._exchange = exchange
        self._batches = batches
        self._limits = limits
        self._patient_id = patient_id
        self._encounter_id = encounter_id
        self.patient: Resource | None = None
        self.encounter: Resource | None = None
        self.resources: dict[str, Any] = {}
        # Entries that are a part of another resource, and so have no version of their own.
        self.contained: set[str] = set()

    async def run(self, planned: Plan) -> None:
        """Fill ``resources``; errors as FhirReader.read."""
        answers = await self._batches.fetch(self._exchange, planned.reads)
        self.resources.update(dict.fromkeys(planned.absent))
        searches: list[tuple[Read, Answer]] = []
        # The patient comes first in every plan, then the encounter: the others are compared with them.
        for read, answer in zip(planned.reads, answers, strict=True):
            if read.kind == "patient":
                self._take_patient(read, answer)
            elif read.kind == "encounter":
                self._take_encounter(read, answer)
            else:
                searches.append((read, answer))
        calls = [partial(self._matches, read, answer) for read, answer in searches]
        matches = await gather_few(self._limits.parallel, calls)
        for (read, _), found in zip(searches, matches, strict=True):
            self.resources[read.names[0]] = found
        await self._follow_all(planned.follows)

    def _take_patient(self, read: Read, answer: Answer) -> None:
        patient = require_success(answer, read.what, PatientUnknown)
        if patient.get("resourceType") != "Patient":
            raise FhirInvalid(f"{read.what}: the answer is not a Patient.")
        if patient.get("id") != self._patient_id:
            raise WrongPatient(f"{read.what}: the FHIR server answered with another patient.")
        links = patient.get("link")
        replaced = any(
            isinstance(link, dict) and link.get("type") == "replaced-by"
            for link in (links if isinstance(links, list) else [])
        )
        if patient.get("active") is False or replaced:
            raise PatientInactive(f"{read.what}: the record is {'merged into another' if replaced else 'not active'}.")
        require_whole(patient, read.what)
        self.patient = patient
        self.resources.update(dict.fromkeys(read.names, patient))

    def _take_encounter(self, read: Read, answer: Answer) -> None:
        encounter = require_success(answer, read.what, ResourceUnknown)
        self._check(encounter, read)
        if encounter.get("id") != self._encounter_id:
            raise WrongPatient(f"{read.what}: the FHIR server answered with another encounter.")
        self.encounter = encounter
        self.resources.update(dict.fromkeys(read.names, encounter))

    async def _matches(self, read: Read, answer: Answer) -> list[Resource]:
        first = require_success(answer, read.what, ResourceUnknown)
        found = await read_searchset(self._exchange, first, read, self._limits)
        for resource in found:
            self._check(resource, read)
        if read.encounter_id is None:
            return found
        base, encounter_id = self._exchange.base_url, read.encounter_id
        ours = [resource for resource in found if is_of_encounter(resource, encounter_id, base)]
        if read.encounter_asked and len(ours) != len(found):
            raise WrongPatient(f"{read.what}: a resource belongs to another encounter.")
        return ours

    def _check(self, resource: Resource, read: Read) -> None:
        if resource.get("resourceType") != read.type:
            raise FhirInvalid(f"{read.what}: the answer is not of type {read.type}.")
        require_whole(resource, read.what)
        assert self.patient is not None  # Plans begin with the patient.
        require_patient(resource, self.patient, self._exchange.base_url, read.what)

    async def _follow_all(self, follows: tuple[Follow, ...]) -> None:
        """Read what references lead to, wave by wave: the reference of one entry may be found in another."""
        waiting = list(follows)
        while waiting:
            ready = [one for one in waiting if one.source in self.resources]
            if not ready:
                raise DataIncomplete(f"context.{waiting[0].name}: its reference waits for itself.")
            waiting = [one for one in waiting if one not in ready]
            reads = []
            for one in ready:
                found = self._referenced(one)
                if isinstance(found, Read):
                    reads.append(found)
                else:
                    self.resources[one.name] = found
            answers = await self._batches.fetch(self._exchange, reads) if reads else []
            for read, answer in zip(reads, answers, strict=True):
                self.resources[read.names[0]] = self._followed(read, answer)

    def _referenced(self, follow: Follow) -> Read | Resource | None:
        """Find what the one reference at the path names: a read to make, a contained resource, or nothing."""
        what = f"context.{follow.name}"
        literals = {
            reference["reference"]
            for reference in elements(self.resources[follow.source], follow.path)
            if isinstance(reference, dict) and isinstance(reference.get("reference"), str)
        }
        if not literals:
            if follow.optional:
                return None
            raise ResourceUnknown(f"{what}: there is no reference at {follow.source}.{follow.path}.")
        if len(literals) > 1:
            raise DataIncomplete(f"{what}: {follow.source}.{follow.path} names more than one resource.")
        literal = literals.pop()
        if literal.startswith("#"):
            return self._contained(follow, literal[1:])
        target = resolve(literal, self._exchange.base_url)
        if target is None or target.type != follow.type:
            raise ResourceUnknown(f"{what}: the reference leads to another type or server; it is not followed.")
        return Read("reference", follow.type, target.url, (follow.name,), optional=follow.optional)

    def _contained(self, follow: Follow, identity: str) -> Resource:
        for part in elements(self.resources[follow.source], "contained"):
            if isinstance(part, dict) and (part.get("id"), part.get("resourceType")) == (identity, follow.type):
                self.contained.add(follow.name)
                return part
        raise ResourceUnknown(f"context.{follow.name}: the contained resource is not there.")

    def _followed(self, read: Read, answer: Answer) -> Resource | None:
        if read.optional and answer.status in (404, 410) and answer.outcome:
            return None
        resource = require_success(answer, read.what, ResourceUnknown)
        self._check(resource, read)
        if resource.get("id") != read.url.split("/")[1]:
            raise FhirInvalid(f"{read.what}: the FHIR server answered with another resource than the one asked for.")
        return resource


def _provenance(reading: _Reading) -> list[dict[str, str | None]]:
    versions: set[tuple[str, str, str | None]] = set()
    found: list[object] = [reading.patient, reading.encounter]
    for name, value in reading.resources.items():
        if name not in reading.contained:
            found.extend(value if isinstance(value, list) else [value])
    for resource in found:
        if isinstance(resource, dict) and isinstance(resource.get("id"), str):
            meta = resource.get("meta")
            version = meta.get("versionId") if isinstance(meta, dict) else None
            known = version if isinstance(version, str) else None
            versions.add((str(resource["resourceType"]), resource["id"], known))
    ordered = sorted(versions, key=lambda one: (one[0], one[1], one[2] or ""))
    return [{"type": kind, "id": identity, "versionId": version} for kind, identity, version in ordered]
