"""`argus node` with two faults that can be had on demand: for `make chaos` only.

- SIGUSR1: the device thread hangs in its next step, for ever, while everything else goes on, as
  with a driver that does not return.
- A prompt with the word POISON in it kills the process as soon as a row of it is taken, as with a
  shape that makes a kernel write where it must not.

Arguments are those of `argus node`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

POISON = "nitroglycerin"
_hangs = threading.Event()


def install() -> None:
    """Put the faults where device and driver would be."""
    from argus.engine import stepper
    from argus.engine.engine import Engine

    step, submit = stepper.run_step, Engine.submit

    def hanging(*args: Any, **kwargs: Any) -> Any:
        if _hangs.is_set():
            threading.Event().wait()
        return step(*args, **kwargs)

    def deadly(self: Engine, request: Any, *args: Any, **kwargs: Any) -> None:
        if POISON in request.prompt:
            os.kill(os.getpid(), signal.SIGKILL)
        submit(self, request, *args, **kwargs)

    stepper.run_step = hanging
    Engine.submit = deadly  # type: ignore[method-assign]
    signal.signal(signal.SIGUSR1, lambda *_: _hangs.set())


if __name__ == "__main__":
    install()
    from argus.cli.main import main

    sys.argv = [sys.argv[0], "node", *sys.argv[1:]]
    main()
