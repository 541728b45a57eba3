"""The step-level batcher: rows, lanes, slots, decode queue. Knows nothing of gRPC."""
