"""The door for clients."""

from __future__ import annotations

from collections.abc import AsyncIterator

from argus.clock import Clock
from argus.control.reuse import NearState
from argus.coordinator.catalog import Catalog
from argus.coordinator.dispatch import Dispatcher
from argus.coordinator.door import Door
from argus.coordinator.membership import Membership
from argus.coordinator.reuse import Reuse
from argus.coordinator.views import live_variants
from argus.rpc.convert import image_request_from_proto
from argus.rpc.interceptors import Context
from argus.v1 import image_pb2, image_pb2_grpc


class ImageService(image_pb2_grpc.ImageServiceServicer):
    """Implements argus.v1.ImageService over the dispatcher."""

    def __init__(
        self,
        clock: Clock,
        dispatcher: Dispatcher,
        catalog: Catalog,
        membership: Membership,
        door: Door,
        reuse: Reuse | None = None,
    ) -> None:
        self._clock = clock
        self._door = door
        self._reuse = reuse
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._membership = membership

    async def Generate(  # noqa: N802 - gRPC's name
        self, request: image_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[image_pb2.GenerateResponse]:
        """Stream the life of one request; a client that leaves frees its row."""
        came_s = self._clock.now()
        wanted = self._door.named(image_request_from_proto(request))
        known = self._dispatcher.knows(wanted.request_id)
        ticket = self._door.enter(wanted, known)
        try:
            near: tuple[NearState, ...] = ()
            if self._reuse is not None and not known:
                ladder, variants = self._catalog.ladder, self._catalog.variants
                near = await self._reuse.look_up(wanted, ladder, variants)
            subscription = self._dispatcher.submit(wanted, near, came_s)
            try:
                async for event in subscription:
                    yield event
            finally:
                self._dispatcher.unsubscribe(subscription)
        finally:
            self._door.leave(ticket)

    async def ListVariants(  # noqa: N802 - gRPC's name
        self, request: image_pb2.ListVariantsRequest, context: Context
    ) -> image_pb2.ListVariantsResponse:
        """List what live nodes hold, the default first."""
        return image_pb2.ListVariantsResponse(
            variants=live_variants(self._catalog, self._membership)
        )
