from __future__ import annotations

import numpy as np
import pytest

from argus.cache.codec import CorruptStateError, decode, encode
from argus.cache.state import EntryRecord, State
from argus.errors import InvalidArgumentError
from tests.unit.cache.build import SHAPE, key, record, state


def file_of(entry: EntryRecord) -> bytes:
    return b"".join(encode(entry))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_dtype_comes_back_bit_for_bit(dtype: str) -> None:
    entry = record("a", (5, 10, 25), dtype=dtype, owner="ünï")
    back = decode(memoryview(file_of(entry)))
    assert back.info == entry.info
    for k, original in entry.states.items():
        assert back.states[k].dtype == dtype
        assert back.states[k].shape == SHAPE
        assert bytes(back.states[k].data) == bytes(original.data)


def test_states_of_different_shape_lie_in_one_file() -> None:
    odd = State.of_array(np.arange(7, dtype=np.float32))
    entry = EntryRecord(key("a"), 50, "", 1.0, {3: odd, 4: state(1)})
    back = decode(memoryview(file_of(entry)))
    assert np.array_equal(back.states[3].array(), np.arange(7, dtype=np.float32))
    assert bytes(back.states[4].data) == bytes(state(1).data)


def test_no_single_flipped_bit_goes_unnoticed() -> None:
    entry = EntryRecord(key("a"), 50, "t", 1.0, {3: State.of(bytes(24), (6,), "float32")})
    whole = file_of(entry)
    served = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        try:
            back = decode(memoryview(damaged))
        except CorruptStateError:
            continue
        # Only the padding may differ, and then what is read is as it was written.
        served += 1
        assert back.info == entry.info
        assert bytes(back.states[3].data) == bytes(24)
    assert served < 64


def test_no_truncated_file_is_read() -> None:
    whole = file_of(record("a"))
    for length in [*range(0, 700, 7), len(whole) - 1]:
        with pytest.raises(CorruptStateError):
            decode(memoryview(whole[:length]))
    with pytest.raises(CorruptStateError):
        decode(memoryview(whole + b"\0"))


@pytest.mark.parametrize("ks", [(), (0,), (50,), (5, 60)])
def test_an_entry_cannot_have_states_outside_its_run(ks: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match="states"):
        file_of(record("a", ks))


@pytest.mark.parametrize(
    ("data", "shape", "dtype", "field"),
    [
        (bytes(8), (2,), "float64", "dtype"),
        (bytes(8), (3,), "float32", "data"),
        (bytes(0), (0,), "float32", "shape"),
        (bytes(4), (), "float32", "shape"),
    ],
)
def test_a_state_that_is_none_is_refused(
    data: bytes, shape: tuple[int, ...], dtype: str, field: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=field):
        State.of(data, shape, dtype)


def test_bfloat16_is_kept_as_its_bits() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    stored = State.of_array(tensor.view(torch.uint16).numpy(), "bfloat16")
    entry = EntryRecord(key("a"), 50, "", 1.0, {5: stored})
    array = decode(memoryview(file_of(entry))).states[5].array()
    assert torch.equal(torch.from_numpy(array.copy()).view(torch.bfloat16), tensor)
