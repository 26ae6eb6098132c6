"""Adsum: a presence service, the source of truth for who is online and where."""

__version__ = "0.1.0"
