"""Measurements of a running service. `python -m bench` runs them all; figures name the machine."""
