"""A form of the tenant's own, in the template language of docs/template-language.md, and the calls of its life."""

from __future__ import annotations

from typing import Any

import httpx2

from contract.from_outside.caller import Caller, new_id

TEMPLATES = "/v1/document-templates"


def letter(title: str = "Letter") -> dict[str, Any]:
    """A one-page letter that prints the patient's name, a number and a reason."""
    return {
        "language": 1,
        "page": {
            "size": "A4",
            "orientation": "portrait",
            "margins": {"top": 18, "bottom": 16, "left": 18, "right": 18},
        },
        "locales": ["en"],
        "labels": {
            "en": {
                "title": title,
                "patient": "Patient",
                "name": "Name",
                "amount": "Amount",
                "foot": "Issued {issuedAt}",
            }
        },
        "inputs": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"amount": {"type": "number"}},
        },
        "context": {"patient": {"read": "Patient"}},
        "bindings": {
            "name": {"path": "%patient.name.where(use = 'official').first()", "type": "humanName", "required": True},
            "amount": {"input": "amount", "type": "decimal"},
        },
        "sections": [
            {"type": "header"},
            {
                "type": "fieldGrid",
                "title": "patient",
                "fields": [{"label": "name", "value": "name"}, {"label": "amount", "value": "amount"}],
            },
            {"type": "footer", "text": "foot"},
        ],
    }


class Form:
    """A template that its author made, draft or published."""

    def __init__(self, author: Caller, **fields: Any) -> None:
        self._author = author
        answer = author.post(TEMPLATES, json={"name": f"Letter {new_id()}", "category": "letter", **fields})
        assert answer.status_code == 201, answer.text
        self.created = answer
        self.id = str(answer.json()["id"])
        self.path = f"{TEMPLATES}/{self.id}"

    def etag(self) -> str:
        """The ETag that an edit must name."""
        return str(self._author.get(self.path).headers["etag"])

    def save(self, definition: dict[str, Any]) -> httpx2.Response:
        """Save the draft."""
        return self._author.put(f"{self.path}/draft", json=definition, headers={"If-Match": self.etag()})

    def publish(self, key: str | None = None, **fields: Any) -> httpx2.Response:
        """Publish the draft."""
        return self._author.post(f"{self.path}/publish", json=fields, headers={"Idempotency-Key": key or new_id()})

    def version(self, title: str = "Letter", **fields: Any) -> str:
        """Save and publish one more version; its id."""
        assert self.save(letter(title)).status_code == 200
        answer = self.publish(**fields)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])
