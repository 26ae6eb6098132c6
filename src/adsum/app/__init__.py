"""Configuration, wiring and the running process."""
