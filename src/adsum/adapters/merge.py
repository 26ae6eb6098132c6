"""One page of metrics made of those of several processes.

Invariant: every sample of every page is there, with the label `worker` to tell
whose it is; the samples of one metric stand together under one description, as
Prometheus' text format (0.0.4) and OpenMetrics (1.0.0) ask.
"""

from collections.abc import Iterable, Mapping

LABEL = "worker"
END = "# EOF"
"""The last line of a page of OpenMetrics."""


def merge_pages(pages: Mapping[str, str], own: str = "") -> str:
    """The page of all; `pages` has the text of each by the label's value, which needs no escaping.

    The samples of `own` get no label. All are in the same format.
    """
    descriptions: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for metric, description, lines in _metrics(own):
        descriptions[metric], samples[metric] = description, lines
    for name, page in pages.items():
        for metric, description, lines in _metrics(page):
            descriptions.setdefault(metric, description)
            samples.setdefault(metric, []).extend(_labelled(line, name) for line in lines)
    lines = [line for metric, head in descriptions.items() for line in (*head, *samples[metric])]
    if any(page.endswith(f"{END}\n") for page in (own, *pages.values())):
        lines.append(END)
    return "".join(f"{line}\n" for line in lines)


def _metrics(page: str) -> Iterable[tuple[str, list[str], list[str]]]:
    """Name, description (HELP, TYPE) and samples of each metric, as the library writes them one after another."""
    metric, description, samples = "", list[str](), list[str]()
    for line in page.splitlines():
        if line == END:
            break
        if not line.startswith("#"):
            samples.append(line)
            continue
        _, _, named, *_ = line.split(" ", 3)
        if named != metric:
            if metric:
                yield metric, description, samples
            metric, description, samples = named, [], []
        description.append(line)
    if metric:
        yield metric, description, samples


def _labelled(sample: str, name: str) -> str:
    """A sample with one more label; a metric's name has neither brace nor space."""
    bare, brace, rest = sample.partition("{")
    if brace:
        return f'{bare}{{{LABEL}="{name}",{rest}'
    metric, _, value = sample.partition(" ")
    return f'{metric}{{{LABEL}="{name}"}} {value}'
