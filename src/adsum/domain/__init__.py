"""Values and rules of presence. Standard library only; no clock, no loop, no log."""
