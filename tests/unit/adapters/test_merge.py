"""One page of metrics of several."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from adsum.adapters.merge import merge_pages


def page(connections: int, *reasons: str) -> str:
    """A page as a worker makes it."""
    registry = CollectorRegistry()
    Gauge("open", "Open { now }.", registry=registry).set(connections)
    closed = Counter("closed", "Closed.", ["reason"], registry=registry)
    for reason in reasons:
        closed.labels(reason).inc()
    Histogram("took", "Seconds.", buckets=(1, 2), registry=registry).observe(1.5)
    return generate_latest(registry).decode()


def test_every_sample_is_there_with_its_worker() -> None:
    pages = {"0": page(3, "slow", 'a "quoted} \\ {one'), "1": page(4)}
    merged = list(text_string_to_metric_families(merge_pages(pages)))
    found = [(s.name, s.labels, s.value) for metric in merged for s in metric.samples]
    expected = [
        (s.name, {"worker": name, **s.labels}, s.value)
        for name, text in pages.items()
        for metric in text_string_to_metric_families(text)
        for s in metric.samples
    ]
    assert sorted(found, key=str) == sorted(expected, key=str)


def test_each_metric_is_described_once_and_stands_together() -> None:
    lines = merge_pages({"0": page(3, "slow"), "1": page(4, "slow")}).splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert len(names) == len(set(names))
    at = [number for number, line in enumerate(lines) if line.startswith("open{")]
    assert at == [at[0], at[0] + 1]
    assert lines[at[0] - 2 : at[0]] == ["# HELP open Open { now }.", "# TYPE open gauge"]


def test_pages_of_openmetrics_have_one_end() -> None:
    own = "# HELP x X.\n# TYPE x gauge\nx 3.0\n# EOF\n"
    merged = merge_pages({"0": "# HELP x X.\n# TYPE x gauge\nx 1.0\n# EOF\n", "1": ""}, own)
    assert merged == '# HELP x X.\n# TYPE x gauge\nx 3.0\nx{worker="0"} 1.0\n# EOF\n'


def test_a_worker_that_told_nothing_leaves_nothing() -> None:
    assert merge_pages({}) == ""
    assert merge_pages({"0": "", "1": "# HELP x X.\n# TYPE x gauge\nx 1.0\n"}) == (
        '# HELP x X.\n# TYPE x gauge\nx{worker="1"} 1.0\n'
    )
