"""The access rule: one function decides whether a caller may see a record of a patient.

Every way to a record asks here: generate and render jobs, lists, show, download links, look-up, uploads and the
change feed. What is denied is answered as if it did not exist (404), or left out of a list.

The default rule is the contract's: a record carries its encounter's facility and is seen by that facility's users; one
without a facility is seen by the whole tenant. Which tenant's rows exist at all is not decided here but by row-level
security, before anything is asked.

An organisation with a stricter rule changes ``permits`` (the patient, and the confidentiality code of the record that
the document was made from, are handed to it for that). Lists and the feed narrow by facility in SQL first and ask
``permits`` for each row that is left, so a stricter rule holds everywhere; a wider one would have to change
``facilities_of`` too.
"""

from __future__ import annotations

from dataclasses import dataclass

from document_service.tokens import Caller


@dataclass(frozen=True, slots=True)
class Subject:
    """What a record is about: whose it is, where it was made, how confidential.

    ``facility_ids`` None: of the whole tenant. ``security_label``: the HL7 v3 Confidentiality code, None = not said.
    """

    patient_id: str | None
    facility_ids: tuple[str, ...] | None
    security_label: str | None = None


def permits(caller: Caller, subject: Subject) -> bool:
    """Whether the caller may see a record about ``subject``."""
    if subject.facility_ids is None or caller.facilities is None:
        return True
    return not caller.facilities.isdisjoint(subject.facility_ids)


def facilities_of(caller: Caller) -> list[str] | None:
    """The facilities that lists are narrowed to in SQL; None = all."""
    return None if caller.facilities is None else sorted(caller.facilities)
