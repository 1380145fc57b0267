"""A search read to its end, or refused: a table with rows missing looks exactly like a complete one."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from document_service.errors import DataIncomplete, FhirInvalid, FhirUnavailable, RenderTooLarge
from document_service.fhir.compartment import Resource
from document_service.fhir.exchange import Exchange, Limits, require_success
from document_service.fhir.reads import Read

# Issues that say "there is more than this" or "I did not do what you asked" even when marked as a mere warning
# (https://hl7.org/fhir/R4/valueset-issue-type.html).
_INCOMPLETE_ISSUES = frozenset(
    {"incomplete", "suppressed", "throttled", "too-costly", "timeout", "transient", "exception", "not-supported"}
)


async def read_searchset(exchange: Exchange, first: dict[str, Any], read: Read, limits: Limits) -> list[Resource]:
    """Give every match of ``read``, whose first page is ``first``, following its next links.

    Raises DataIncomplete when the server says or shows that something is missing or was not asked for, FhirInvalid
    when an answer is not a searchset, RenderTooLarge beyond the limits, and what a page's own exchange raises.
    """
    what = read.what
    total = first.get("total")
    _require_narrowed(first, read)
    found: dict[str, Resource] = {}
    page: dict[str, Any] | None = first
    seen: set[str] = set()
    while page is not None:
        _take(page, read, found)
        if len(found) > limits.resources:
            raise RenderTooLarge(f"{what}: more than {limits.resources} resources match.")
        link = _link(page, "next")
        if link is None:
            break
        below = exchange.below_base(link)
        if below is None:
            raise DataIncomplete(f"{what}: the next page lies outside the tenant's FHIR address; it is not followed.")
        if below in seen or len(seen) >= limits.pages:
            raise DataIncomplete(f"{what}: the pages of the answer do not come to an end.")
        seen.add(below)
        answer = await exchange.get(below, what)
        # A page that is gone belongs to a search that the server has forgotten; asking anew may succeed.
        page = require_success(answer, what, FhirUnavailable)
    if isinstance(total, int) and len(found) < total:
        raise DataIncomplete(f"{what}: the server announced more resources than it gave.")
    return list(found.values())


def _take(page: dict[str, Any], read: Read, found: dict[str, Resource]) -> None:
    what = read.what
    if page.get("resourceType") != "Bundle" or page.get("type") != "searchset":
        raise FhirInvalid(f"{what}: the answer to the search is not a searchset.")
    entries = page.get("entry", [])
    if not isinstance(entries, list):
        raise FhirInvalid(f"{what}: the searchset's entries are not a list.")
    for entry in entries:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict):
            raise DataIncomplete(f"{what}: an entry of the answer has no resource.")
        search = entry.get("search")
        mode = search.get("mode", "match") if isinstance(search, dict) else "match"
        if mode == "outcome" or resource.get("resourceType") == "OperationOutcome":
            require_complete(resource, what)
        elif mode == "match":
            identity = resource.get("id")
            if resource.get("resourceType") != read.type or not isinstance(identity, str):
                raise FhirInvalid(f"{what}: the answer holds a resource of another type, or one without an id.")
            require_whole(resource, what)
            found[identity] = resource


def require_complete(outcome: Resource, what: str) -> None:
    """Raise DataIncomplete when an OperationOutcome beside the data says that the data are not all there."""
    issues = outcome.get("issue")
    for issue in issues if isinstance(issues, list) else []:
        if isinstance(issue, dict) and (
            issue.get("severity") in ("error", "fatal") or issue.get("code") in _INCOMPLETE_ISSUES
        ):
            raise DataIncomplete(f"{what}: the FHIR server says that its answer is not complete.")


def require_whole(resource: Resource, what: str) -> None:
    """Raise DataIncomplete for a resource that the server marks as cut down (tag SUBSETTED)."""
    meta = resource.get("meta")
    tags = meta.get("tag") if isinstance(meta, dict) else None
    for tag in tags if isinstance(tags, list) else []:
        if isinstance(tag, dict) and tag.get("code") == "SUBSETTED":
            raise DataIncomplete(f"{what}: the FHIR server gave only a part of a resource.")


def _link(page: dict[str, Any], relation: str) -> str | None:
    links = page.get("link")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("relation") == relation and isinstance(link.get("url"), str):
            return str(link["url"])
    return None


def _require_narrowed(first: dict[str, Any], read: Read) -> None:
    """Check that no parameter was ignored: the self link names those that were used (FHIR R4 search, "Self link")."""
    own = _link(first, "self")
    # Not urlsplit(): a garbled address raises there, and only what stands behind the question mark matters here.
    used = {name.partition(":")[0] for name, _ in parse_qsl((own or "").partition("?")[2])}
    # A self link without a search in it says nothing about what was used.
    if used and not used.issuperset(read.narrowing):
        raise DataIncomplete(f"{read.what}: the FHIR server ignored a search parameter of the form.")
