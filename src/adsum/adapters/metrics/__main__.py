"""Prints the documentation of all metrics."""

from collections.abc import Iterator

from adsum.adapters.metrics.book import Label
from adsum.adapters.metrics.meter import PrometheusMeter
from adsum.domain.errors import AdsumError


def documentation() -> str:
    """The content of `docs/metrics.md`."""
    lines = [
        "# Metrics",
        "",
        "`GET /metrics` on the HTTP port, in Prometheus' text format, or OpenMetrics if the `Accept` header asks so.",
        "A histogram has `_bucket`, `_sum` and `_count`; its `_count` is how many there were. Besides these there are",
        "the `process_*` metrics of the Prometheus client library (CPU, memory, open files, start time), on Linux.",
        "With `workers` each sample has one label more: `worker`, the process's number, from 0 on. Only `adsum_ready`",
        "has a sample without it, of the supervisor.",
        "",
        "This page is generated: `python -m adsum.adapters.metrics > docs/metrics.md`.",
        "",
        "| name | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{doc.name}` | {doc.kind} | {'; '.join(map(_label, doc.labels))} | {doc.meaning} |"
        for doc in PrometheusMeter().docs
    ]
    lines += ["", "## Names of errors", "", "| name | code | meaning |", "|---|---|---|", *_errors(AdsumError)]
    return "\n".join(lines) + "\n"


def _label(label: Label) -> str:
    return f"`{label.name}`: {label.words or ', '.join(f'`{value}`' for value in label.values)}"


def _errors(kind: type[AdsumError]) -> Iterator[str]:
    """A row for each name that a tree of errors has; what shares a name with its base has its meaning."""
    if "name" in vars(kind) and not any(sub.name == kind.name and "name" in vars(sub) for sub in kind.__subclasses__()):
        meaning = (kind.__doc__ or "").partition("\n")[0]
        if kind is AdsumError:
            meaning = "A defect of ours; the log has the trace."
        yield f"| `{kind.name}` | {kind.code} | {meaning} |"
    for sub in kind.__subclasses__():
        if sub.__module__ == kind.__module__:  # what a protocol adds is its own
            yield from _errors(sub)


if __name__ == "__main__":
    print(documentation(), end="")  # noqa: T201 -- what it is run for
