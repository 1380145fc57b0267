"""Who is calling: bearer JWTs verified and turned into a :class:`Caller`.

    claims          verified claims → Caller, refused when a claim does not have its shape
    issuer_keys     the public keys of one OpenID issuer, cached
    local_issuer    the issuer of a single machine, whose key lives in the data folder
    verifier        token → signature → claims → Caller

The tenant comes from the token and from nowhere else (contract §1). Nothing here knows a table, and no text of an
error repeats the token or a name in it.
"""

from document_service.tokens.claims import (
    AUDITOR,
    CLINICIAN,
    DOCUMENT_AUTHOR,
    ROLES,
    TENANT_ADMIN,
    Caller,
    tenant_id_problem,
)
from document_service.tokens.issuer_keys import Issuer, parse_issuers
from document_service.tokens.local_issuer import LocalIssuer
from document_service.tokens.verifier import Verifier

__all__ = [
    "AUDITOR",
    "CLINICIAN",
    "DOCUMENT_AUTHOR",
    "ROLES",
    "TENANT_ADMIN",
    "Caller",
    "Issuer",
    "LocalIssuer",
    "Verifier",
    "parse_issuers",
    "tenant_id_problem",
]
