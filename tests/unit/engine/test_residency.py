"""Variants that are loaded, parked, brought back, pinned and unloaded under a memory budget."""

from __future__ import annotations

import queue
import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest
import torch

from argus.diffusion.adapter import load_variant
from argus.diffusion.size import folder_weights_bytes
from argus.engine.engine import Engine, EngineOptions
from argus.engine.events import RowDone, RowEvent, RowFailed
from argus.engine.moves import Order
from argus.engine.residents import Resident
from argus.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    ModelError,
    NotFoundError,
)

from .conftest import collect, history_of, make_request, wait_until

CPU = torch.device("cpu")
SLACK_BYTES = 4096
"""Buffers, which are not in the files."""
NAMES = ("tiny-eps", "tiny-v", "tiny-third")


def load(engine: Engine, folder: Path, *, pinned: bool = False) -> Future[Resident]:
    size = folder_weights_bytes(folder, 4)
    return engine.load(
        folder, size, partial(load_variant, folder, CPU, torch.float32), pinned=pinned
    )


@pytest.fixture(scope="module")
def folders(
    tiny_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    third = tmp_path_factory.mktemp("third") / "tiny-third"
    shutil.copytree(tiny_folders["tiny-eps"], third)
    return tiny_folders | {"tiny-third": third}


@pytest.fixture
def crowded(folders: dict[str, Path]) -> Iterator[Engine]:
    """An engine with three variants and room for two."""
    sizes = {name: folder_weights_bytes(folder, 4) for name, folder in folders.items()}
    budget = sum(sizes.values()) - 1
    engine = Engine((), EngineOptions(slots=4, max_lanes=4, weights_bytes=budget))
    for name in reversed(NAMES):
        load(engine, folders[name]).result(60)
    yield engine
    engine.close()


def test_the_size_read_from_the_files_is_that_of_the_weights(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        adapter = load_variant(folder, CPU, torch.float32)
        assert folder_weights_bytes(folder, 4) == pytest.approx(adapter.weights_bytes, rel=0.01)


def test_a_broken_weights_file_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "broken"
    shutil.copytree(folders["tiny-eps"], copy)
    file = next((copy / "unet").glob("*.safetensors"))
    for junk in (b"", b"\xff" * 16, b"\x02" + b"\0" * 7 + b"[]"):
        file.write_bytes(junk)
        with pytest.raises(ModelError, match="not a readable safetensors file"):
            folder_weights_bytes(copy, 4)


def test_variants_beyond_the_budget_are_served_in_turns(
    crowded: Engine, folders: dict[str, Path]
) -> None:
    assert set(crowded.stats().resident) == {"tiny-eps", "tiny-v"}
    everything = Engine(
        [load_variant(folder, CPU, torch.float32) for folder in folders.values()],
        EngineOptions(slots=4, max_lanes=4),
    )
    requests = [
        make_request(f"{name}-{n}", variant=name, seed=n, steps=4)
        for n in range(6)
        for name in NAMES
    ]
    try:
        expected = [history[-1] for history in collect(everything, requests)]
    finally:
        everything.close()
    for want, history in zip(expected, collect(crowded, requests), strict=True):
        assert isinstance(want, RowDone)
        assert isinstance(history[-1], RowDone), history[-1]
        assert history[-1].data == want.data
    held = sum(
        r.adapter.weights_bytes
        for r in crowded.residents.values()
        if r.adapter.device.type != "meta"
    )
    assert held <= crowded.options.weights_bytes


def test_a_variant_that_is_always_busy_does_not_starve_a_parked_one(crowded: Engine) -> None:
    (parked,) = set(NAMES) - set(crowded.stats().resident)
    busy = [
        make_request(f"{name}-{n}", variant=name, steps=30)
        for n in range(6)
        for name in crowded.stats().resident
    ]
    late = make_request("late", variant=parked, steps=2)
    histories = collect(crowded, [*busy, late])
    assert all(isinstance(history[-1], RowDone) for history in histories)


def test_a_pinned_variant_stays(crowded: Engine) -> None:
    for name in crowded.stats().resident:
        crowded.pin(name, True)
    (parked,) = set(NAMES) - set(crowded.stats().resident)
    request = make_request("never", variant=parked, steps=2, deadline_s=1.0)
    ((*_, last),) = collect(crowded, [request])
    assert isinstance(last, RowFailed)
    assert parked not in crowded.stats().resident
    with pytest.raises(FailedPreconditionError, match="is pinned"):
        crowded.unload(crowded.stats().resident[0])


def test_an_unloaded_variant_is_unknown_and_can_come_back(
    crowded: Engine, folders: dict[str, Path]
) -> None:
    crowded.unload("tiny-v")
    with pytest.raises(NotFoundError):
        crowded.submit(make_request("gone", variant="tiny-v"), lambda _: None)
    with pytest.raises(NotFoundError):
        crowded.unload("tiny-v")
    load(crowded, folders["tiny-v"]).result(60)
    ((*_, last),) = collect(crowded, [make_request("back", variant="tiny-v")])
    assert isinstance(last, RowDone)
    with pytest.raises(AlreadyExistsError):
        load(crowded, folders["tiny-v"]).result(60)


def test_what_is_too_large_is_refused_at_load(folders: dict[str, Path]) -> None:
    size = folder_weights_bytes(folders["tiny-eps"], 4)
    engine = Engine((), EngineOptions(slots=2, max_lanes=4, weights_bytes=size + SLACK_BYTES))
    try:
        load(engine, folders["tiny-eps"], pinned=True).result(60)
        with pytest.raises(ModelError, match="more than the budget of"):
            load(engine, folders["tiny-v"]).result(60)
        with pytest.raises(ModelError, match="pinned or in use"):
            load(engine, folders["tiny-third"]).result(60)
        ((*_, last),) = collect(engine, [make_request("fine")])
        assert isinstance(last, RowDone)
    finally:
        engine.close()


def test_a_folder_that_vanished_fails_the_rows_that_need_it_and_no_others(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    lost = tmp_path / "tiny-lost"
    shutil.copytree(folders["tiny-eps"], lost)
    budget = 2 * folder_weights_bytes(lost, 4) - 1
    engine = Engine((), EngineOptions(slots=2, max_lanes=4, weights_bytes=budget))
    try:
        load(engine, lost).result(60)
        load(engine, folders["tiny-eps"]).result(60)
        assert engine.stats().resident == ("tiny-eps",)
        shutil.rmtree(lost)
        ((*_, bad),) = collect(engine, [make_request("bad", variant="tiny-lost")])
        assert isinstance(bad, RowFailed)
        assert "could not be brought back" in bad.message
        ((*_, good),) = collect(engine, [make_request("good")])
        assert isinstance(good, RowDone)
    finally:
        engine.close()


def test_rows_that_wait_for_an_unloaded_variant_fail(crowded: Engine) -> None:
    (parked,) = set(NAMES) - set(crowded.stats().resident)
    for name in crowded.stats().resident:
        crowded.pin(name, True)
    inbox: queue.Queue[RowEvent] = queue.Queue()
    crowded.submit(make_request("waits", variant=parked), inbox.put)
    crowded.unload(parked)
    (last,) = history_of(inbox)
    assert isinstance(last, RowFailed)
    assert last.message == f"variant {parked!r} was unloaded"


def test_a_variant_that_never_fits_beside_the_pinned_ones_is_refused_and_holds_nobody_up(
    folders: dict[str, Path],
) -> None:
    sizes = {name: folder_weights_bytes(folder, 4) for name, folder in folders.items()}
    budget = sizes["tiny-v"] + SLACK_BYTES
    assert sizes["tiny-eps"] + sizes["tiny-third"] + SLACK_BYTES < budget
    assert sizes["tiny-v"] + sizes["tiny-eps"] > budget
    engine = Engine((), EngineOptions(slots=2, max_lanes=4, weights_bytes=budget))
    try:
        load(engine, folders["tiny-v"]).result(60)
        load(engine, folders["tiny-eps"], pinned=True).result(60)
        load(engine, folders["tiny-third"]).result(60)
        large = make_request("large", variant="tiny-v")
        small = [make_request(f"small-{n}", variant="tiny-third") for n in range(3)]
        (*_, refused), *others = collect(engine, [large, *small])
        assert isinstance(refused, RowFailed)
        assert "does not fit into the budget" in refused.message
        assert all(isinstance(history[-1], RowDone) for history in others)
    finally:
        engine.close()


def test_a_variant_loaded_anew_from_another_folder_forgets_the_old_one(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    other = tmp_path / "tiny-eps"
    shutil.copytree(folders["tiny-v"], other)
    engine = Engine((), EngineOptions(slots=2, max_lanes=4))
    try:
        load(engine, folders["tiny-eps"]).result(60)
        collect(engine, [make_request("old")])
        wait_until(lambda: engine.residents["tiny-eps"].claims == 0)
        engine.unload("tiny-eps")
        load(engine, other).result(60)
        ((*_, ours),) = collect(engine, [make_request("new")])
    finally:
        engine.close()
    fresh = Engine((), EngineOptions(slots=2, max_lanes=4))
    try:
        load(fresh, other).result(60)
        ((*_, theirs),) = collect(fresh, [make_request("new")])
    finally:
        fresh.close()
    assert isinstance(ours, RowDone)
    assert isinstance(theirs, RowDone)
    assert ours.data == theirs.data


def parked_of(engine: Engine) -> str:
    (parked,) = set(NAMES) - set(engine.stats().resident)
    return parked


def test_an_order_brings_one_in_and_takes_another_out(crowded: Engine) -> None:
    parked, (out, stays) = parked_of(crowded), crowded.stats().resident
    assert crowded.move(Order(load=parked, park=(out,))).result(60) > 0
    assert set(crowded.stats().resident) == {parked, stays}
    ((*_, last),) = collect(crowded, [make_request("there", variant=parked)])
    assert isinstance(last, RowDone)


def test_an_order_that_does_not_fit_moves_nothing(crowded: Engine) -> None:
    parked, before = parked_of(crowded), crowded.stats().resident
    with pytest.raises(FailedPreconditionError, match="more than there is room for"):
        crowded.move(Order(load=parked))
    for name in before:
        crowded.pin(name, True)
    with pytest.raises(FailedPreconditionError, match="more than there is room for"):
        crowded.move(Order(load=parked, make_room=True))
    with pytest.raises(FailedPreconditionError, match="is pinned"):
        crowded.move(Order(load=parked, park=before[:1]))
    with pytest.raises(NotFoundError):
        crowded.move(Order(load="nowhere"))
    assert crowded.stats().resident == before


def test_an_order_makes_room_and_parking_alone_frees_it(crowded: Engine) -> None:
    parked = parked_of(crowded)
    crowded.move(Order(load=parked, make_room=True)).result(60)
    assert parked in crowded.stats().resident
    assert len(crowded.stats().resident) == 2
    crowded.move(Order(park=(parked,), drop=True)).result(60)
    assert parked not in crowded.stats().resident
    assert crowded.residents[parked].adapter.device.type == "meta"


def test_a_variant_in_use_is_not_moved_and_its_row_ends_well(crowded: Engine) -> None:
    used = crowded.stats().resident[0]
    events: queue.Queue[RowEvent] = queue.Queue()
    crowded.submit(make_request("long", variant=used, steps=40), events.put)
    while crowded.residents[used].claims == 0:
        events.get(timeout=30)
    with pytest.raises(FailedPreconditionError, match="in use"):
        crowded.move(Order(load=parked_of(crowded), park=(used,)))
    while not isinstance(event := events.get(timeout=30), RowDone):
        assert not isinstance(event, RowFailed)
    wait_until(lambda: not crowded.residents[used].claims)
    crowded.move(Order(load=parked_of(crowded), park=(used,))).result(60)
    assert used not in crowded.stats().resident
