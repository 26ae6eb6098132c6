"""A client of the service's WebSocket and gRPC ports."""
