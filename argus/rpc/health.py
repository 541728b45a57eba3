"""Asking a server how it is, by `grpc.health.v1`, which wants no key."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from argus.errors import NotFoundError
from argus.rpc.channel import open_blocking_channel
from argus.rpc.server import SERVING
from argus.rpc.status import from_rpc_error
from argus.rpc.tls import Tls
from argus.v1 import admin_pb2, cluster_pb2, image_pb2

SERVICES = tuple(
    service.full_name
    for module in (image_pb2, cluster_pb2, admin_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
)
"""Of a coordinator."""


def is_serving(server: str, service: str, tls: Tls | None, timeout_s: float) -> bool:
    """Return whether a service of `HOST:PORT` says that it takes requests.

    Args:
        server: whom to ask.
        service: full name, such as `argus.v1.ImageService`; empty: the whole server.
        tls: how to meet its TLS; None: it speaks none.
        timeout_s: how long to wait for the answer.

    Raises:
        NotFoundError: it has no such service.
        ArgusError: it did not answer in time, or not at all.
        ConfigError: a file of `tls` cannot be used.
    """
    with open_blocking_channel(server, tls) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise NotFoundError("service", service, SERVICES) from error
            raise from_rpc_error(error, server) from error
    return bool(answer.status == SERVING)
