"""The parts of the bench: each measures one side of the service.

A part has one public coroutine function, `measure`, which takes a `Record`.
"""
