"""gRPC plumbing: channels and servers, errors on the wire, protos to value types and back."""
