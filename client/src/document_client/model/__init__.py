"""An executable model of the service, as far as the client meets it: contract §3 and §4 in memory.

It stands at the network's edge only (``transport.ModelTransport`` under httpx2, ``transport.serve`` on a loopback
port) and ships with the package, so that an application built on the client can be tested without a service. The
rules are written straight from the contract, without a look at the service's code: it is also the oracle that the
service is compared with.
"""

from .rules import Model
from .transport import Fault, ModelTransport, serve
from .wire import Caller, ModelAnswer

__all__ = ["Caller", "Fault", "Model", "ModelAnswer", "ModelTransport", "serve"]
