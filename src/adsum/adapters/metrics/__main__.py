"""Prints the documentation of all metrics."""

from adsum.adapters.metrics.meter import PrometheusMeter


def documentation() -> str:
    """The content of `docs/metrics.md`."""
    lines = [
        "# Metrics",
        "",
        "`GET /metrics` on the HTTP port, in Prometheus' text format. A histogram has `_bucket`, `_sum` and `_count`;",
        "its `_count` is how many there were. Besides these there are the `process_*` metrics of the Prometheus client",
        "library (CPU, memory, open files, start time), on Linux.",
        "",
        "This page is generated: `python -m adsum.adapters.metrics > docs/metrics.md`.",
        "",
        "| name | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for doc in PrometheusMeter().docs:
        labels = ", ".join(f"`{label}`" for label in doc.labels)
        lines.append(f"| `{doc.name}` | {doc.kind} | {labels} | {doc.meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(documentation(), end="")  # noqa: T201 -- what it is run for
