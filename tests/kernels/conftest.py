"""A worker in which Triton interprets kernels on the CPU instead of compiling them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
import torch

Call = Callable[..., Any]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def interpreted() -> Iterator[Call]:
    """Return a function that runs another one, with its arguments, in that worker.

    Triton decides when it is imported, so this process, which compiles, cannot interpret as well.
    Tensors are shared with the worker: what it writes in place is seen here.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TRITON_INTERPRET", "1")
            environment.setenv("OMP_NUM_THREADS", "1")
            # The first call starts the worker, which inherits the two.
            assert pool.submit(os.getenv, "TRITON_INTERPRET").result() == "1"

        def run(function: Call, *arguments: Any) -> Any:
            return pool.submit(function, *arguments).result()

        yield run
