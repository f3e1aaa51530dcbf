"""Envoy's external processing protocol: protobuf messages on a gRPC call, to and from `exchange.machine`.

`service` holds the conversations and speaks with the engine; `wire` is the protobuf part.
"""

from stellwerk.edge.extproc.metrics import families
from stellwerk.edge.extproc.service import PATH, ExtProcService
from stellwerk.edge.extproc.settings import Counts, ExtProcSettings

__all__ = ["PATH", "Counts", "ExtProcService", "ExtProcSettings", "families"]
