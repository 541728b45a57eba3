"""GPUs are dealt to nodes, counted by commands that stand in for the driver's and torch's."""

from __future__ import annotations

from typing import Protocol

import pytest

from argus.cli import devices
from argus.cli.devices import cuda_devices, deal, is_processor


class Machine(Protocol):
    def __call__(self, listed: int, usable: int | None = None) -> None: ...


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a function that makes this a machine with so many GPUs, `usable` by torch."""

    def make(listed: int, usable: int | None = None) -> None:
        lines = "".join(f"GPU {i}: NVIDIA Test (UUID: GPU-{i})\\n" for i in range(listed))
        count = ("printf", str(listed if usable is None else usable))
        monkeypatch.setattr(devices, "LIST_GPUS", ("printf", lines))
        monkeypatch.setattr(devices, "COUNT_DEVICES", count)

    return make


def test_auto_deals_the_gpus_by_position(machine: Machine) -> None:
    machine(2)
    assert deal("auto", 3) == ["cuda:0", "cuda:1", "cuda:0"]


def test_torch_has_the_last_word_on_how_many_can_be_used(machine: Machine) -> None:
    machine(8, usable=2)
    assert deal("auto", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    machine(8, usable=0)
    assert deal("auto", 2) == ["auto", "auto"]


def test_auto_is_left_to_the_nodes_where_there_is_nothing_to_deal(machine: Machine) -> None:
    for listed in (0, 1):
        machine(listed)
        assert deal("auto", 2) == ["auto", "auto"]
    machine(2)
    assert deal("auto", 1) == ["auto"]


def test_auto_is_the_processor_where_there_is_no_gpu(machine: Machine) -> None:
    machine(0)
    assert is_processor("auto")
    for listed in (1, 2):
        machine(listed)
        assert not is_processor("auto")
    assert is_processor("cpu")
    assert not is_processor("cuda:0")


def test_named_devices_are_dealt_in_turn(machine: Machine) -> None:
    machine(4)
    assert deal("cpu, cuda:3", 3) == ["cpu", "cuda:3", "cpu"]


@pytest.mark.parametrize("command", [("no-such-command",), ("false",)])
def test_a_machine_without_the_driver_has_no_gpu(
    monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(devices, "LIST_GPUS", command)
    assert cuda_devices() == 0
