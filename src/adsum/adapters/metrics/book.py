"""How metrics are made: each is written down as it is made, for the documentation.

Names follow Prometheus' practice: base units, `_total` on counters alone, `_info`, no type in a
name, and a histogram of time ends in `_duration_seconds`. Values of a label exclude each other,
so that their sum has a meaning.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Info, disable_created_metrics, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from adsum.ports import PageFormat


class Label(NamedTuple):
    """A label: all its `values`; or, where they are not known beforehand, what they are in words."""

    name: str
    values: tuple[str, ...] = ()
    words: str = ""


class MetricDoc(NamedTuple):
    """One metric, as documented."""

    name: str
    kind: str
    labels: tuple[Label, ...]
    meaning: str

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of its labels."""
        return tuple(label.name for label in self.labels)


class Book:
    """Makes metrics in one registry and writes down what was made."""

    def __init__(self) -> None:
        # The library's creation times are a series for every series:
        # as many lines again, which tell no more than the process's start.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.docs: list[MetricDoc] = []

    def counter(self, name: str, meaning: str, *labels: Label) -> Counter:
        """A new counter."""
        return Counter(name, meaning, self._note(name, "counter", meaning, labels).label_names, registry=self.registry)

    def counters(self, name: str, meaning: str, label: Label) -> "Counters":
        """A new counter with one label."""
        return Counters(self.counter(name, meaning, label), label)

    def gauge(self, name: str, meaning: str, *labels: Label) -> Gauge:
        """A new gauge."""
        return Gauge(name, meaning, self._note(name, "gauge", meaning, labels).label_names, registry=self.registry)

    def info(self, name: str, meaning: str, values: dict[Label, str]) -> None:
        """Facts that do not change, as the labels of a metric that is always 1."""
        self._note(name, "info", meaning, tuple(values))
        facts = {label.name: value for label, value in values.items()}
        Info(name.removesuffix("_info"), meaning, registry=self.registry).info(facts)

    def histogram(self, name: str, meaning: str, buckets: Sequence[float], *labels: Label) -> "Histograms":
        """A new histogram; `buckets` are the greatest values of all but the last, which has the rest."""
        histograms = Histograms(self._note(name, "histogram", meaning, labels), buckets)
        self.registry.register(histograms)
        return histograms

    def page(self, form: PageFormat) -> bytes:
        """All metrics as they are now."""
        write = generate_openmetrics if form == "openmetrics" else generate_latest
        page: bytes = write(self.registry)
        return page

    def _note(self, name: str, kind: str, meaning: str, labels: tuple[Label, ...]) -> MetricDoc:
        doc = MetricDoc(name, kind, labels, meaning)
        self.docs.append(doc)
        return doc


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
        family = HistogramMetricFamily(self._doc.name, self._doc.meaning, labels=self._doc.label_names)
        for values, child in self._children.items():
            counts, total = child.read()
            family.add_metric(values, list(zip(self._texts, counts, strict=True)), total)
        yield family


class Counters:
    """The counters of one name by the values of its one label, which are few and ours."""

    def __init__(self, counter: Counter, label: Label) -> None:
        self._counter = counter
        # Looking a child up in the library costs more than adding to it. Those
        # known before exist from the start: an alert on one that is absent never fires.
        self._children = {value: counter.labels(value) for value in label.values}

    def add(self, value: str, amount: float = 1) -> None:
        """Add to one of them."""
        child = self._children.get(value)
        if child is None:
            child = self._children[value] = self._counter.labels(value)
        child.inc(amount)
