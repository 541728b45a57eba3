"""The `argus` command, a file for each subcommand."""

import os

# gRPC reads this when it is first imported, and would tell every lost connection on stderr beside
# the one line that says what it means.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
