"""Messages from the network become values or one of our errors, whatever is in them."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import example, given
from hypothesis import strategies as st

from argus.client.events import events_from_proto
from argus.errors import ArgusError, InvalidArgumentError
from argus.rpc.address import parse_address
from argus.rpc.convert import image_request_from_proto, image_request_to_proto, parse_size
from argus.rpc.convert_cluster import node_info_from_proto, node_info_to_proto, work_from_proto
from argus.rpc.status import DETAILS_KEY, from_rpc_error, to_status
from argus.rpc.utf8 import MalformedRequest, explain, tolerant
from argus.types import NodeInfo, StepCosts, VariantCosts, VariantInfo
from argus.v1 import cluster_pb2, image_pb2
from tests.fuzz.spoiled import UNHURRIED, bytes_near, refusal
from tests.unit.coordinator.bench import Bench, one_work

VARIANT = VariantInfo("base", "P", 64, 64, 8, 128, ("ddim",), "ddim", 10, 5.0)
COSTS = VariantCosts(StepCosts((1, 2), (0.1, 0.15)), 0.0, 0.1)
NODE = NodeInfo("n1", "cpu", "d", 1, 4, 8, "0", (VARIANT,), (COSTS,))

NUMBERS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(-5, 20),
}
TEXT = st.text(st.characters(codec="utf-8"), max_size=20) | st.just("x" * 4001)


@st.composite
def messages(draw: st.DrawFn, kind: type[Message]) -> Any:
    """Return a message whose fields hold anything that the wire can carry."""
    message = kind()
    fill(draw, message, message.DESCRIPTOR)
    return message


def fill(draw: st.DrawFn, message: Any, kind: Descriptor) -> None:
    for field in kind.fields:
        # What may hold itself does so once, else there is no end to it.
        again = field.message_type is kind
        count = draw(st.integers(0, 3 if field.is_repeated and not again else 1))
        for _ in range(count):
            if field.message_type is not None:
                inner = getattr(message, field.name)
                fill(draw, inner.add() if field.is_repeated else inner, field.message_type)
                if not field.is_repeated:
                    inner.SetInParent()
                continue
            value = draw(values(field))
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=20)
    return NUMBERS.get(field.cpp_type, TEXT)


@UNHURRIED
@given(messages(image_pb2.GenerateRequest))
def test_a_request_is_taken_whole_or_refused_by_field(message: image_pb2.GenerateRequest) -> None:
    # An id that is left out is made up anew each time.
    message.request_id = message.request_id or "id"
    error = refusal(InvalidArgumentError, image_request_from_proto, message)
    if error is None:
        request = image_request_from_proto(message)
        assert image_request_from_proto(image_request_to_proto(request)) == request
    else:
        assert str(error).partition(": ")[0] in message.DESCRIPTOR.fields_by_name
        assert len(str(error)) < 300


@UNHURRIED
@given(messages(cluster_pb2.NodeHello))
def test_a_hello_is_taken_or_refused(hello: cluster_pb2.NodeHello) -> None:
    hello.protocol_version = 1
    try:
        info = node_info_from_proto(hello)
    except ArgusError:
        return
    node_info_to_proto(info)


@UNHURRIED
@given(messages(cluster_pb2.Work))
def test_work_is_taken_or_refused(work: cluster_pb2.Work) -> None:
    error = refusal(InvalidArgumentError, work_from_proto, work)
    assert error is None or str(error).startswith("format: ")


async def a_row() -> cluster_pb2.HeldRow:
    """Return what a node says of a row that it was given."""
    bench = Bench()
    node = bench.join("a")
    bench.submit(seed=7)
    work = await one_work(node)
    step = image_pb2.StepProgress(step=3, steps=10)
    return cluster_pb2.HeldRow(work=work, run="other", age_s=1.0, step=step)


@UNHURRIED
@given(messages(cluster_pb2.HeldRow), st.data())
async def test_whatever_rows_a_node_brings_along_the_accounts_add_up(
    strange: cluster_pb2.HeldRow, data: st.DataObject
) -> None:
    row = await a_row()
    fields = data.draw(st.sets(st.sampled_from([f.name for f in row.DESCRIPTOR.fields])))
    for name in fields - {"work"}:
        strange.ClearField(name)
    if "work" in fields:
        inner = data.draw(st.sets(st.sampled_from([f.name for f in row.work.DESCRIPTOR.fields])))
        for name in inner:
            strange.work.ClearField(name)
    row.MergeFrom(strange)
    bench = Bench()
    node, dropped = bench.rejoin("a", row, await a_row())
    flights = bench.dispatcher.flights
    assert len(flights) + len(dropped) == 2
    assert sorted(node.backlog.row_ids) == sorted(flights)
    assert node.backlog.drained_s() < float("inf")
    bench.done(node, row.work)
    bench.pass_time(30.0)
    assert not bench.dispatcher.flights
    counters = bench.dispatcher.counters
    assert counters.accepted == counters.answered + counters.cancelled + counters.failed


@UNHURRIED
@given(messages(image_pb2.GenerateResponse))
def test_an_answer_is_an_event_or_an_error(message: image_pb2.GenerateResponse) -> None:
    try:
        list(events_from_proto(message, "a prompt"))
    except ArgusError:
        return


@pytest.mark.parametrize("deep", [50, 200, 3000])
def test_bytes_nested_without_end_are_refused_and_nothing_grows(deep: int) -> None:
    """Each level of a bundle in a bundle takes a few bytes more."""
    data = b""
    for _ in range(deep):
        data = more(data)
    if deep < 100:  # protobuf itself goes no deeper
        cluster_pb2.JoinRequest.FromString(data)
    else:
        with pytest.raises(DecodeError):
            cluster_pb2.JoinRequest.FromString(data)
    assert explain(data, "/argus.v1.ClusterService/Join").description


def more(data: bytes) -> bytes:
    """Return a message that holds another one in its field 50."""
    length, size = len(data), b""
    while length >= 128:
        size += bytes([length & 127 | 128])
        length >>= 7
    return b"\x92\x03" + size + bytes([length]) + data


GENERATE = image_pb2.GenerateRequest(prompt="a red circle", steps=5, tenant="a", seed=3)
HELLO = cluster_pb2.JoinRequest(hello=node_info_to_proto(NODE))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("/argus.v1.ImageService/Generate", GENERATE),
        ("/argus.v1.ClusterService/Join", HELLO),
    ],
)
@UNHURRIED
@given(data=st.data())
def test_bytes_are_a_message_or_named_as_malformed(
    method: str, message: Message, data: st.DataObject
) -> None:
    raw = data.draw(bytes_near(message.SerializeToString()))
    found = tolerant(type(message).FromString, method)(raw)
    if isinstance(found, MalformedRequest):
        assert found.error.field
        with pytest.raises(DecodeError):
            type(message).FromString(raw)


@UNHURRIED
@given(st.binary(max_size=200))
def test_explaining_never_fails(raw: bytes) -> None:
    assert explain(raw, "/argus.v1.ClusterService/Join").description


class Failed:
    """A failed call, as gRPC hands it over."""

    def __init__(self, code: grpc.StatusCode, text: str | None, trailers: Any) -> None:
        self._parts = (code, text, trailers)

    def code(self) -> grpc.StatusCode:
        return self._parts[0]

    def details(self) -> str | None:
        return self._parts[1]

    def trailing_metadata(self) -> Any:
        return self._parts[2]


GOOD_DETAILS = to_status(InvalidArgumentError("steps", "must be 1")).trailing_metadata[0][1]


@UNHURRIED
@given(
    st.sampled_from(list(grpc.StatusCode)),
    st.none() | st.text(max_size=50),
    bytes_near(GOOD_DETAILS) | st.binary(max_size=100),
)
@example(grpc.StatusCode.NOT_FOUND, "x", b"")
def test_the_error_of_any_peer_becomes_one_of_ours(
    code: grpc.StatusCode, text: str | None, details: bytes
) -> None:
    error = from_rpc_error(Failed(code, text, ((DETAILS_KEY, details),)), "h:1")
    assert isinstance(error, ArgusError)
    to_status(error)


@UNHURRIED
@given(st.text(max_size=40) | st.from_regex(r"\[?[0-9a-f:.]{0,20}\]?:[0-9]{0,7}", fullmatch=True))
def test_an_address_is_one_or_is_refused(text: str) -> None:
    try:
        _, port = parse_address(text, "x")
    except ArgusError:
        return
    assert 0 <= port <= 65535


@UNHURRIED
@given(st.text(max_size=30) | st.from_regex(r"[0-9]{0,12}[xX][0-9]{0,12}", fullmatch=True))
def test_a_size_is_one_or_is_refused(text: str) -> None:
    error = refusal(InvalidArgumentError, parse_size, text)
    assert str(error).startswith("size: ") if error else min(parse_size(text)) > 0
