"""gRPC: OpenIM's `openim.user` service, with the standard health and reflection services."""
