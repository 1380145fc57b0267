"""The issuer of a single machine: an Ed25519 key in the data folder, used by ``document-service token`` alone.

It exists so that one machine can be tried and run without an OpenID server (design §9). Whoever can read the key file
can be anybody in any tenant, so the file is 0600 and one that others may read is refused.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Collection
from datetime import timedelta
from pathlib import Path

from joserfc import jws
from joserfc.jwk import OKPKey
from ulid import ULID

from document_service.tokens.claims import ROLES, tenant_id_problem
from document_service.tokens.issuer_keys import Issuer, VerificationKey

LOCAL_ISSUER = Issuer(url="urn:document-service:local-issuer", audience="document-service")
KEY_FILE = "local-issuer.json"

# Contract §5 gives `--expires 12h` as the example: one working day at a clinic.
DEFAULT_LIFETIME = timedelta(hours=12)

# A token of a year is a password in a file; this bound keeps a slip of the unit ("3000h") from making one.
MAX_LIFETIME = timedelta(days=90)


class SilentAlgorithms(jws.JWSRegistry):
    """joserfc's registry without its warning that RFC 9864 renames EdDSA, which design §9 names and issuers send."""

    def get_alg(self, name: str) -> jws.JWSAlgModel:  # type: ignore[name-defined]
        """Give the algorithm when it is one of those allowed at construction; raise JoseError when not."""
        if self.allowed is None or name not in self.allowed:
            return super().get_alg("none")
        return self.algorithms[name]


class LocalIssuer:
    """Issues tokens for this machine's own service; ``data_dir`` holds its key, made on first use."""

    def __init__(self, data_dir: Path, clock: Callable[[], float] = time.time) -> None:
        """Open the key of ``data_dir``, creating it when absent; PermissionError when others may read it."""
        self._key = OKPKey.import_key(_load_or_create(data_dir / KEY_FILE))
        self._clock = clock
        self.kid = self._key.thumbprint()

    def verification_key(self) -> VerificationKey:
        """Give the public half, for the verifier."""
        public = OKPKey.import_key(self._key.as_dict(private=False))
        return VerificationKey(self.kid, "EdDSA", public)

    def issue(
        self,
        tenant: str,
        user: str,
        roles: Collection[str],
        facilities: Collection[str] | None = None,
        expires: timedelta = DEFAULT_LIFETIME,
    ) -> str:
        """Issue a token; ``facilities`` None means the whole tenant.

        Raises ValueError, worded for the person at the command line, when an argument is not acceptable.
        """
        problem = tenant_id_problem(tenant)
        if problem is not None:
            raise ValueError(problem)
        if not user or len(user) > 255 or not user.isprintable():
            raise ValueError("a user is a printable name of at most 255 characters")
        unknown = sorted(set(roles) - ROLES)
        if unknown:
            raise ValueError(f"unknown role {unknown[0]!r}; the roles are {', '.join(sorted(ROLES))}")
        if not timedelta(0) < expires <= MAX_LIFETIME:
            raise ValueError(f"a token lives more than 0 seconds and at most {MAX_LIFETIME.days} days")
        now = int(self._clock())
        claims: dict[str, object] = {
            "iss": LOCAL_ISSUER.url,
            "aud": LOCAL_ISSUER.audience,
            "sub": user,
            "tenant": tenant,
            "roles": sorted(set(roles)),
            "iat": now,
            "exp": now + max(1, int(expires.total_seconds())),
            "jti": str(ULID()),
        }
        if facilities is not None:
            claims["facilities"] = sorted(set(facilities))
        return jws.serialize_compact(
            {"alg": "EdDSA", "typ": "at+jwt", "kid": self.kid},
            json.dumps(claims, separators=(",", ":")),
            self._key,
            registry=SilentAlgorithms(algorithms=["EdDSA"]),
        )


def _load_or_create(path: Path) -> dict[str, str | list[str]]:
    try:
        return _load(path)
    except FileNotFoundError:
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    made = json.dumps(OKPKey.generate_key("Ed25519").as_dict(private=True))
    # `serve` and `token` may start together on a new folder: both write a file of their own, one of them wins the
    # link, and both then read the winner's key.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(made)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return _load(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        draft.unlink()
    return _load(path)


def _load(path: Path) -> dict[str, str | list[str]]:
    with path.open() as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise PermissionError(f"{path} can be read by other users; run: chmod 600 {path}")
        try:
            stored = json.load(file)
        except ValueError:
            raise ValueError(f"{path} is damaged; move it away and sign everybody in again") from None
    if not isinstance(stored, dict) or stored.get("crv") != "Ed25519" or "d" not in stored:
        raise ValueError(f"{path} does not hold an Ed25519 key; move it away and sign everybody in again")
    return stored
