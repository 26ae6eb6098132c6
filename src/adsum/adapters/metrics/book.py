"""How metrics are made: each is written down as it is made, for the documentation."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


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

    def histogram(self, name: str, meaning: str, buckets: Sequence[float], *labels: str) -> "Histograms":
        """A new histogram; `buckets` are the greatest values of all but the last, which has the rest."""
        doc = MetricDoc(name, "histogram", labels, meaning)
        self.docs.append(doc)
        histograms = Histograms(doc, buckets)
        self.registry.register(histograms)
        return histograms


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


class Histogram:
    """Values observed, by bucket. The library's own takes a lock for each of its parts."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """One more value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def read(self) -> tuple[list[int], float]:
        """How many values each bucket has with those before it, and the sum of all."""
        return list(accumulate(self._counts)), self._total


class Histograms(Collector):
    """The histograms of one name by the values of its labels, which are few and ours."""

    def __init__(self, doc: MetricDoc, bounds: Sequence[float]) -> None:
        self._doc = doc
        self._bounds = tuple(bounds)
        self._texts = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._children: dict[tuple[str, ...], Histogram] = {}

    def labels(self, *values: str) -> Histogram:
        """The one of these labels."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = Histogram(self._bounds)
        return child

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The library calls this when metrics are read."""
        name, _, labels, meaning = self._doc
        family = HistogramMetricFamily(name, meaning, labels=labels)
        for values, child in self._children.items():
            counts, total = child.read()
            family.add_metric(values, list(zip(self._texts, counts, strict=True)), total)
        yield family


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
