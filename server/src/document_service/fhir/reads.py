"""From a definition's ``context`` and a request to the reads that fill it.

    "patient":   {"read": "Patient"}                                    the patient of the request
    "encounter": {"read": "Encounter", "optional": true}                the encounter of the request, if it names one
    "author":    {"read": "Practitioner", "reference": "encounter.participant.individual"}
                                                                        what the one reference at that path leads to
    "orders":    {"search": "ServiceRequest", "params": {"status": "active"}, "scope": "encounter"}
                                                                        all matches of the patient, and of the encounter
                                                                        when the request names one

The patient, and the encounter when the request names one, are read whether or not the form shows them: they are what
every other resource is compared with. Values of ``params`` may hold ``{patientId}``, ``{encounterId}`` and
``{inputs.name}``; an input is escaped, so that it is one value and never search syntax.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import quote, urlencode

from document_service.definitions import searches
from document_service.errors import BindingFailed, ResourceUnknown
from document_service.fhir.compartment import ADMINISTRATIVE, COMPARTMENT

# A page large enough that an ordinary chart comes in one answer and small enough for servers with lower limits, which
# answer with fewer and a next link.
PAGE_SIZE = 200

# A form that needs more than this is several forms; the figure bounds one batch.
MAX_CONTEXTS = 20

PATIENT = "the patient"
ENCOUNTER = "the encounter"


@dataclass(frozen=True, slots=True)
class Read:
    """One read or search. ``names`` are the context entries that it fills; ``url`` is relative to the base."""

    kind: Literal["patient", "encounter", "search", "reference"]
    type: str
    url: str
    names: tuple[str, ...] = ()
    # Search parameters whose being ignored by the server would widen the result.
    narrowing: tuple[str, ...] = ()
    # The encounter that every match must name; None for all of the patient.
    encounter_id: str | None = None
    # Whether the server was asked for that encounter; where it cannot be, matches of others are dropped here.
    encounter_asked: bool = False
    optional: bool = False

    @property
    def what(self) -> str:
        """How errors name this read."""
        if self.names:
            return ", ".join(f"context.{name}" for name in self.names)
        return PATIENT if self.kind == "patient" else ENCOUNTER


@dataclass(frozen=True, slots=True)
class Follow:
    """A context entry that is known only after another one was read: the reference at ``path`` of ``source``."""

    name: str
    type: str
    source: str
    path: str
    optional: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What to read at once, what to follow afterwards, and the entries that this request leaves empty."""

    reads: tuple[Read, ...]
    follows: tuple[Follow, ...]
    absent: tuple[str, ...]


def plan(
    context: Mapping[str, Mapping[str, Any]],
    patient_id: str,
    encounter_id: str | None,
    inputs: Mapping[str, Any],
) -> Plan:
    """Plan the reads of one job.

    Raises BindingFailed for a context that cannot be read as written, and ResourceUnknown when the form needs an
    encounter and the request names none.
    """
    if len(context) > MAX_CONTEXTS:
        raise BindingFailed(f"context: a form reads at most {MAX_CONTEXTS} entries.")
    patients, encounters, absent = [], [], []
    searches: list[Read] = []
    follows: list[Follow] = []
    for name, spec in context.items():
        if "search" in spec:
            searches.append(_search(name, spec, patient_id, encounter_id, inputs))
        elif "reference" in spec:
            follows.append(_follow(name, spec, context))
        elif spec.get("read") == "Patient":
            patients.append(name)
        elif spec.get("read") == "Encounter":
            if encounter_id is not None:
                encounters.append(name)
            elif spec.get("optional", False):
                absent.append(name)
            else:
                raise ResourceUnknown(f"context.{name}: the form needs an encounter; name its encounterId.")
        else:
            raise BindingFailed(f"context.{name}: there is nothing to read; see docs for the forms of a context.")
    reads = [Read("patient", "Patient", f"Patient/{quote(patient_id, safe='')}", tuple(patients))]
    if encounter_id is not None:
        reads.append(Read("encounter", "Encounter", f"Encounter/{quote(encounter_id, safe='')}", tuple(encounters)))
    return Plan(tuple(reads + searches), tuple(follows), tuple(absent))


def _search(
    name: str,
    spec: Mapping[str, Any],
    patient_id: str,
    encounter_id: str | None,
    inputs: Mapping[str, Any],
) -> Read:
    type_name = spec["search"]
    belonging = COMPARTMENT.get(type_name)
    if belonging is None:
        raise BindingFailed(f"context.{name}: resources of this type are not searched by patient.")
    scoped = encounter_id if spec.get("scope", "patient") == "encounter" else None
    if scoped and belonging.encounter is None and type_name != "Encounter":
        raise BindingFailed(f"context.{name}: {type_name} names no encounter; use the scope patient.")
    pairs = [(belonging.patient_parameter, f"Patient/{patient_id}")]
    if scoped and belonging.encounter_parameter is not None:
        value = scoped if belonging.encounter_parameter == "_id" else f"Encounter/{scoped}"
        pairs.append((belonging.encounter_parameter, value))
    narrowing = []
    for parameter, template in (spec.get("params") or {}).items():
        if not searches.may_be_set(parameter):
            raise BindingFailed(f"context.{name}.params: a parameter is not one that a template may set.")
        for one in template if isinstance(template, list) else [template]:
            pairs.append((parameter, _fill(str(one), f"context.{name}", patient_id, encounter_id, inputs)))
        if parameter != "_sort":
            narrowing.append(parameter.partition(":")[0])
    pairs.append(("_count", str(PAGE_SIZE)))
    return Read(
        "search",
        type_name,
        f"{type_name}?{urlencode(pairs)}",
        (name,),
        narrowing=tuple(narrowing),
        encounter_id=scoped,
        encounter_asked=belonging.encounter_parameter is not None,
    )


def _follow(name: str, spec: Mapping[str, Any], context: Mapping[str, Mapping[str, Any]]) -> Follow:
    source, _, path = str(spec["reference"]).partition(".")
    type_name = spec.get("read")
    if type_name not in ADMINISTRATIVE and type_name not in COMPARTMENT:
        raise BindingFailed(f"context.{name}: resources of this type are not read by reference.")
    if source not in context or source == name or not path:
        raise BindingFailed(f"context.{name}.reference: begin with the name of another context entry.")
    return Follow(name, str(type_name), source, path, bool(spec.get("optional", False)))


def _fill(template: str, what: str, patient_id: str, encounter_id: str | None, inputs: Mapping[str, Any]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] == "patientId":
            return patient_id
        if match[1] == "encounterId":
            if encounter_id is None:
                raise ResourceUnknown(f"{what}: the form needs an encounter; name its encounterId.")
            return encounter_id
        given = inputs.get(match[2])
        # Leaving the parameter out would print more than the form means to.
        if given is None or not isinstance(given, (str, bool, int, Decimal)) or given == "":
            raise BindingFailed(f"{what}.params: the input {match[2]} is not given.")
        return _escape(str(given).lower() if isinstance(given, bool) else str(given))

    return searches.PLACEHOLDER.sub(value, template)


def _escape(value: str) -> str:
    """Take the meaning from the separators of search values (FHIR R4 search, "Escaping Search Parameters")."""
    return re.sub(r"([\\,|$])", r"\\\1", value)
