"""How metrics are made: each is written down as it is made, for the documentation."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics


class MetricDoc(NamedTuple):
    """One metric, as documented."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


class Book:
    """Makes metrics in one registry and writes down what was made."""

    def __init__(self) -> None:
        # In this format the library's creation times are a gauge for every series:
        # as many lines again, which tell no more than the process's start.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.docs: list[MetricDoc] = []

    def counter(self, name: str, meaning: str, *labels: str) -> Counter:
        """A new counter."""
        self.docs.append(MetricDoc(name, "counter", labels, meaning))
        return Counter(name, meaning, labels, registry=self.registry)

    def gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        """A new gauge."""
        self.docs.append(MetricDoc(name, "gauge", labels, meaning))
        return Gauge(name, meaning, labels, registry=self.registry)

    def histogram(self, name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Histogram:
        """A new histogram."""
        self.docs.append(MetricDoc(name, "histogram", labels, meaning))
        return Histogram(name, meaning, labels, registry=self.registry, buckets=buckets)


class Tally:
    """What happens too often to take the library's lock each time: its counter has it when metrics are read."""

    __slots__ = ("_counter", "count")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self.count = 0

    def flush(self) -> None:
        """Tell the counter."""
        self._counter.inc(self.count)
        self.count = 0


class Counters:
    """The counters of one name by the values of its one label, which are few and ours."""

    def __init__(self, counter: Counter, known: Iterable[str] = ()) -> None:
        self._counter = counter
        # Looking a child up in the library costs more than adding to it. Those
        # known before exist from the start: an alert on one that is absent never fires.
        self._children = {value: counter.labels(value) for value in known}

    def add(self, value: str, amount: float = 1) -> None:
        """Add to one of them."""
        child = self._children.get(value)
        if child is None:
            child = self._children[value] = self._counter.labels(value)
        child.inc(amount)
