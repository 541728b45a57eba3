"""A cluster in virtual time around the control plane's own code."""
