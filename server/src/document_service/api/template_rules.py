"""Who may do what with a template in which state: one table, for docs/templates.md and for the test that tries it all.

A role that is not named is answered 403 ``FORBIDDEN`` in every state. Of a template that the caller may not see
(another tenant's, another facility's) every action is answered 404 ``NOT_FOUND``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from document_service.tokens import AUDITOR, CLINICIAN, DOCUMENT_AUTHOR, TENANT_ADMIN

ROLES = (CLINICIAN, DOCUMENT_AUTHOR, TENANT_ADMIN, AUDITOR)

#: The states of the chart in ``templates``, and the platform's forms, which no tenant changes.
STATES = ("draft", "published", "next draft", "retired", "platform")

_READERS = (CLINICIAN, DOCUMENT_AUTHOR, TENANT_ADMIN)
_STATE = "409 TEMPLATE_STATE_CONFLICT"
_PLATFORM = "403 PLATFORM_TEMPLATE_IMMUTABLE"
_UNKNOWN = "404 NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Action:
    """One request by its route below ``/v1/document-templates``, who may send it, and its answer in each state."""

    name: str
    method: str
    path: str
    roles: tuple[str, ...]
    answers: Mapping[str, str]


def _in(draft: str, published: str, next_draft: str, retired: str, platform: str) -> Mapping[str, str]:
    return dict(zip(STATES, (draft, published, next_draft, retired, platform), strict=True))


ACTIONS = (
    Action("show it", "GET", "/{id}", _READERS, _in("200", "200", "200", "200", "200")),
    Action("show a version", "GET", "/{id}/versions/{version}", _READERS, _in(_UNKNOWN, "200", "200", "200", "200")),
    Action(
        "edit name, category, facility",
        "PATCH",
        "/{id}",
        (DOCUMENT_AUTHOR,),
        _in("200", "200", "200", _STATE, _PLATFORM),
    ),
    Action("save a draft", "PUT", "/{id}/draft", (DOCUMENT_AUTHOR,), _in("200", "200", "200", _STATE, _PLATFORM)),
    Action("preview", "POST", "/{id}/preview", (DOCUMENT_AUTHOR,), _in("200", "200", "200", "200", "200")),
    Action("publish", "POST", "/{id}/publish", (DOCUMENT_AUTHOR,), _in("201", _STATE, "201", _STATE, _PLATFORM)),
    Action("fork", "POST", "/{id}/fork", (DOCUMENT_AUTHOR,), _in(_STATE, _STATE, _STATE, _STATE, "201")),
    Action("retire", "POST", "/{id}/retire", (TENANT_ADMIN,), _in(_STATE, "200", "200", "200", _PLATFORM)),
    Action(
        "withdraw a version",
        "POST",
        "/{id}/versions/{version}/withdraw",
        (TENANT_ADMIN,),
        _in(_UNKNOWN, "200", "200", "200", _PLATFORM),
    ),
    Action(
        "accept a translation",
        "POST",
        "/{id}/accept-translation",
        (TENANT_ADMIN,),
        _in(_STATE, _STATE, _STATE, _STATE, "200"),
    ),
    Action(
        "compare with its origin",
        "GET",
        "/{id}/origin",
        (DOCUMENT_AUTHOR,),
        _in(_STATE, _STATE, _STATE, _STATE, _STATE),
    ),
    Action("pin to a version", "PUT", "/{id}/pin", (TENANT_ADMIN,), _in(_STATE, _STATE, _STATE, _STATE, "200")),
    Action("follow again", "DELETE", "/{id}/pin", (TENANT_ADMIN,), _in(_STATE, _STATE, _STATE, _STATE, "200")),
    Action(
        "request a render",
        "POST",
        "/v1/documents/render-jobs",
        (CLINICIAN,),
        _in(_UNKNOWN, "202", "202", "409 TEMPLATE_VERSION_RETIRED", "202"),
    ),
)


def markdown() -> str:
    """The table as docs/templates.md shows it."""
    lines = [
        f"| Action | Role | {' | '.join(STATES)} |",
        "|---" * (2 + len(STATES)) + "|",
    ]
    for action in ACTIONS:
        answers = (action.answers[state] for state in STATES)
        cells = (f"{answer[:3]} `{answer[4:]}`" if len(answer) > 3 else answer for answer in answers)
        lines.append(f"| {action.name} | {', '.join(action.roles)} | {' | '.join(cells)} |")
    return "\n".join(lines)
