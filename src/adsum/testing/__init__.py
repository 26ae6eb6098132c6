"""A deterministic simulation of a whole Adsum: virtual time, a network that misbehaves, processes that stop and die.

Everything that happens is decided by one seed, so every failure can be replayed.
The code under test is the production code, unchanged.
"""
