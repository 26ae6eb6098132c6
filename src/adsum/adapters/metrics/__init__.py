"""What the operator sees: a `Meter` that counts for Prometheus, and the page it is read from."""
