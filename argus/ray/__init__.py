"""Node daemons as actors of a Ray cluster. Only `crew` imports Ray, which is an extra."""
