"""Work for many, of which what fails for one costs no other."""

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)


def _nothing_more(_item: object) -> None:
    """For what needs no ending."""


def each(
    what: str, items: Iterable[T], do: Callable[[T], object], failed: Callable[[T], object] = _nothing_more
) -> None:
    """Do something for each; where that raises, it is logged as a defect of `what`, and `failed` ends that one."""
    for item in items:
        try:
            do(item)
        except Exception:
            log.exception("%s failed", what)
            try:
                failed(item)
            except Exception:
                log.exception("ending what failed did not succeed")
