"""The id of a user's action (contract §1: a UUID made once per user action), and the two that nobody made."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator

#: The nil and the max UUID (RFC 9562 sections 5.9 and 5.10), which programs send that made none. Under one id for all,
#: the second equal request of a patient would be answered by the first one's document, however old it is.
_NOBODYS_IDS = (0, 2**128 - 1)


def somebodys_id(value: UUID) -> UUID:
    """The id, when somebody made it; raises ValueError with the remedy for one that is the same for everybody."""
    if value.int in _NOBODYS_IDS:
        raise ValueError("Send a UUID that was made for this action, not the nil or the max UUID.")
    return value


MutationId = Annotated[UUID, AfterValidator(somebodys_id)]
