"""The I/O shell around `argus.control`: services, membership and the life of each request."""
