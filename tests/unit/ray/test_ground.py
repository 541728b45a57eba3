"""How many daemons a Ray cluster has room for, and whether its nodes reach the coordinator."""

from __future__ import annotations

import pytest

from argus.config import RayConfig
from argus.errors import ConfigError, FailedPreconditionError
from argus.ray import ground
from argus.ray.ground import (
    RayNode,
    check_cluster_address,
    check_secrets,
    coordinator_address,
    daemons_that_fit,
    is_here,
    own_address_facing,
)

HERE = RayNode("127.0.0.1", {"CPU": 8.0, "GPU": 2.0})
AWAY = RayNode("192.0.2.77", {"CPU": 7.0, "GPU": 1.0})
NO_GPU = RayNode("192.0.2.78", {"CPU": 3.0})


@pytest.fixture(autouse=True)
def only_loopback_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines that run tests may have any address of the documentation's range."""
    monkeypatch.setattr(ground, "is_here", lambda address: address == "127.0.0.1")


@pytest.mark.parametrize(
    ("cpus", "free", "count"),
    [
        (0, {"GPU": 3.0}, 3),
        (0, {"GPU": 1.5}, 1),
        (3, {"CPU": 18.0}, 5),  # 2 + 2 + 1, although 18 CPUs would be 6
        (3, {"CPU": 8.0}, 2),
        (8, {"CPU": 18.0}, 1),
    ],
)
def test_daemons_are_as_many_as_whole_ones_fit_on_each_node(
    cpus: int, free: dict[str, float], count: int
) -> None:
    assert daemons_that_fit(RayConfig(cpus=cpus), [HERE, AWAY, NO_GPU], free) == count


@pytest.mark.parametrize(
    ("cpus", "nodes", "free", "words"),
    [
        (0, [NO_GPU], {"CPU": 3.0}, "has no GPU; --ray-cpus N"),
        (9, [HERE, AWAY], {"CPU": 15.0}, "no node of the Ray cluster has 9 CPUs"),
        (0, [HERE], {"CPU": 8.0}, "all GPUs of the Ray cluster are taken; --nodes N"),
        (8, [HERE], {"CPU": 7.0}, "all CPUs of the Ray cluster are taken; --nodes N"),
    ],
)
def test_room_for_none_is_told_with_what_is_missing(
    cpus: int, nodes: list[RayNode], free: dict[str, float], words: str
) -> None:
    with pytest.raises(FailedPreconditionError, match=words):
        daemons_that_fit(RayConfig(cpus=cpus), nodes, free)


@pytest.mark.parametrize(
    ("listening", "advertised", "address"),
    [
        ("192.0.2.1:7420", "", "192.0.2.1:7420"),
        ("192.0.2.1:7420", "argus.example", "argus.example:7420"),
        ("0.0.0.0:7420", "argus.example:443", "argus.example:443"),
        ("[::]:7420", "[2001:db8::7]", "[2001:db8::7]:7420"),
        ("127.0.0.1:7420", "argus.example", "argus.example:7420"),
    ],
)
def test_the_coordinator_is_dialled_where_it_is_said_to_be(
    listening: str, advertised: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ground, "is_loopback", lambda host: host.startswith("127."))
    assert coordinator_address(listening, advertised, [HERE, AWAY]) == address


def test_a_coordinator_that_listens_everywhere_is_dialled_at_the_address_that_faces_the_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    facing: list[str] = []
    monkeypatch.setattr(
        ground, "own_address_facing", lambda address: facing.append(address) or "192.0.2.1"
    )
    assert coordinator_address("0.0.0.0:7420", "", [HERE, AWAY]) == "192.0.2.1:7420"
    assert coordinator_address("[::]:7420", "", [HERE]) == "192.0.2.1:7420"
    assert facing == [AWAY.address, HERE.address]


@pytest.mark.parametrize("advertised", ["", "127.0.0.1", "localhost:7"])
def test_nodes_elsewhere_are_not_sent_to_their_own_loopback(advertised: str) -> None:
    with pytest.raises(ConfigError, match=r"^ray\.advertise: .* at 192\.0\.2\.77 cannot reach"):
        coordinator_address("127.0.0.1:7420", advertised, [HERE, AWAY])
    assert coordinator_address("127.0.0.1:7420", "", [HERE]) == "127.0.0.1:7420"


@pytest.mark.parametrize("advertised", ["a b:x:", "::1", "host:99999", ":7"])
def test_an_advertised_address_that_is_none_is_refused(advertised: str) -> None:
    with pytest.raises(ConfigError, match=r"^ray\.advertise: must be HOST:PORT"):
        coordinator_address("0.0.0.0:7420", advertised, [HERE])


def test_secrets_do_not_cross_a_network_in_clear_unless_that_is_said() -> None:
    with pytest.raises(ConfigError, match=r"^auth\.api_key: .* 192\.0\.2\.77 for all to read"):
        check_secrets(["auth.api_key"], [HERE, AWAY], encrypted=False, insecure=False)
    check_secrets(["auth.api_key"], [HERE], encrypted=False, insecure=False)
    check_secrets(["auth.api_key"], [HERE, AWAY], encrypted=True, insecure=False)
    check_secrets(["auth.api_key"], [HERE, AWAY], encrypted=False, insecure=True)
    check_secrets([], [HERE, AWAY], encrypted=False, insecure=False)


@pytest.mark.parametrize("text", ["auto", "h:6379", "ray://h:10001", "[::1]:6379"])
def test_addresses_of_clusters(text: str) -> None:
    check_cluster_address(text)


@pytest.mark.parametrize("text", ["", "local", "h", "ray://", "ray://h", "h:x"])
def test_what_is_no_address_of_a_cluster_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^ray\.address: must be auto, HOST:PORT"):
        check_cluster_address(text)


def test_addresses_of_this_machine() -> None:
    assert is_here("127.0.0.1")
    assert not is_here("203.0.113.9")
    assert own_address_facing("127.0.0.1") == "127.0.0.1"
    with pytest.raises(ConfigError, match=r"^ray\.advertise: must be given"):
        own_address_facing("no address")
