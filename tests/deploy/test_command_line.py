"""The checks of these tests would notice what they are there for."""

from __future__ import annotations

import pytest

from tests.deploy.command_line import UsageError, parsed


def test_a_command_line_that_is_right_is_taken_apart() -> None:
    name, options = parsed(["node", "--device=cuda", "--model=/a", "--model", "/b"])
    assert name == "node"
    assert (options["device"], options["model"]) == ("cuda", ["/a", "/b"])


@pytest.mark.parametrize(
    "arguments",
    [["nod"], ["node", "--modle=/a"], ["node", "extra"], ["node", "--threads=many"]],
    ids=" ".join,
)
def test_one_that_is_wrong_is_not(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        parsed(arguments)
