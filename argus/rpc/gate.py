"""Lets calls through only while whoever is behind it says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc

from argus.errors import ArgusError
from argus.rpc.guard import Handler, refusal

OURS = "/argus."


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Refuses calls of Argus's own services; health and reflection are always answered.

    Args:
        check: raises an ArgusError while calls are refused.

    Attributes:
        check: the same.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the handler of the call, or one that refuses it."""
        if str(handler_call_details.method).startswith(OURS):
            try:
                self.check()
            except ArgusError as error:
                return refusal(error)
        return await continuation(handler_call_details)
