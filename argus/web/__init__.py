"""HTTP servers in the process's one event loop."""
