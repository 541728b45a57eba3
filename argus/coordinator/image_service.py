"""The door for clients."""

from __future__ import annotations

from collections.abc import AsyncIterator

from argus.clock import Clock
from argus.control.limits import Ticket
from argus.coordinator.catalog import Catalog
from argus.coordinator.dispatch import Dispatcher
from argus.coordinator.door import Door
from argus.coordinator.membership import Membership
from argus.coordinator.prompts import PromptReader, Reading
from argus.coordinator.settling import Settling
from argus.coordinator.subscription import Subscription
from argus.coordinator.views import live_variants
from argus.errors import ArgusError, InvalidArgumentError, NotFoundError, UnavailableError
from argus.rpc.convert import image_request_from_proto
from argus.rpc.interceptors import Context
from argus.types import ImageRequest
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
        settling: Settling,
        prompts: PromptReader | None = None,
    ) -> None:
        self._clock = clock
        self._door = door
        self._settling = settling
        self._prompts = prompts
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._membership = membership

    async def Generate(  # noqa: N802 - gRPC's name
        self, request: image_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[image_pb2.GenerateResponse]:
        """Stream the life of one request; a client that leaves frees its row."""
        came_s = self._clock.now()
        await self._settling.wait(request.request_id)
        wanted, known, ticket = self._let_in(request)
        try:
            subscription = await self._submit(wanted, known, came_s)
            try:
                async for event in subscription:
                    yield event
            finally:
                self._dispatcher.unsubscribe(subscription)
        finally:
            self._door.leave(ticket)

    def _let_in(self, request: image_pb2.GenerateRequest) -> tuple[ImageRequest, bool, Ticket]:
        """Return the request, whether it is known, and its ticket, or count why there is none."""
        try:
            wanted = self._door.named(image_request_from_proto(request))
            known = self._dispatcher.knows(wanted.request_id)
            return wanted, known, self._door.enter(wanted, known)
        except ArgusError as error:
            self._dispatcher.counters.refuse(error)
            raise

    async def _submit(self, wanted: ImageRequest, known: bool, came_s: float) -> Subscription:
        """Return the events of a request, or count why there are none."""
        try:
            reading: Reading | None = None
            if self._prompts is not None and not known:
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
