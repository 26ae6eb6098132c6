"""Measurements of a running service, from outside: `python -m bench --help`.

Parts (`bench.parts`) start the service and have the load generator (`bench/load`, in Go)
drive it; what they find goes into a `Record`. Figures depend on the machine: results name it,
and carry a reference workload measured around each window.
"""
