"""The `argus` command, a file for each subcommand."""

import os

# gRPC reads this when it is first imported, and would tell every lost connection on stderr beside
# the one line that says what it means.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# Bars of libraries that load weights would stand among the lines of a daemon's log.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
