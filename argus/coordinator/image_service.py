"""The door for clients."""

from __future__ import annotations

from collections.abc import AsyncIterator

from argus.clock import Clock
from argus.coordinator.catalog import Catalog
from argus.coordinator.dispatch import Dispatcher
from argus.coordinator.membership import Membership
from argus.coordinator.prompts import PromptReader, Reading
from argus.coordinator.subscription import Subscription
from argus.coordinator.views import live_variants
from argus.errors import InvalidArgumentError, NotFoundError, UnavailableError
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
        prompts: PromptReader | None = None,
    ) -> None:
        self._clock = clock
        self._prompts = prompts
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._membership = membership

    async def Generate(  # noqa: N802 - gRPC's name
        self, request: image_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[image_pb2.GenerateResponse]:
        """Stream the life of one request; a client that leaves frees its row."""
        subscription = await self._submit(request, self._clock.now())
        try:
            async for event in subscription:
                yield event
        finally:
            self._dispatcher.unsubscribe(subscription)

    async def _submit(self, request: image_pb2.GenerateRequest, came_s: float) -> Subscription:
        """Return the events of a request, or count why there are none."""
        try:
            wanted = image_request_from_proto(request)
            reading: Reading | None = None
            if self._prompts is not None and not self._dispatcher.knows(wanted.request_id):
                ladder, variants = self._catalog.ladder, self._catalog.variants
                reading = await self._prompts.read(wanted, ladder, variants)
            near = reading.near if reading else ()
            prompt = reading.prompt if reading else None
            return self._dispatcher.submit(wanted, near, came_s, prompt)
        except (InvalidArgumentError, NotFoundError, UnavailableError) as error:
            # The dispatcher counts those that it has no room or no time for.
            self._dispatcher.counters.refuse(error)
            raise

    async def ListVariants(  # noqa: N802 - gRPC's name
        self, request: image_pb2.ListVariantsRequest, context: Context
    ) -> image_pb2.ListVariantsResponse:
        """List what live nodes hold, the default first."""
        return image_pb2.ListVariantsResponse(
            variants=live_variants(self._catalog, self._membership)
        )
