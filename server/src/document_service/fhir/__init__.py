"""Read what a form needs from the tenant's FHIR R4 server, and refuse whatever is not surely this patient's.

    reads           the definition's context + the request → the reads to make
    connections     kept connections, on which nothing lies that was not asked for
    exchange        one HTTP exchange, bounded in time and size → JSON or a typed refusal
    batch           several reads in one exchange, where the server takes a batch
    searchset       a search read to its last page, or refused as incomplete
    compartment     does a resource belong to the patient and the encounter
    reader          the walk through all of them → FhirSnapshot

Nothing here keeps or logs patient data; errors name the context entry of the template, resource types and status
codes. Resources entered in error are passed on: what prints as current is decided by the bindings.
"""

from document_service.fhir.exchange import Limits
from document_service.fhir.reader import FhirReader, FhirSnapshot

__all__ = ["FhirReader", "FhirSnapshot", "Limits"]
