"""The node daemon: an I/O shell around the engine, one for each GPU or CPU worker."""
