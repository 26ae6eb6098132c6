"""When each part is measured, and what is told of the Python that runs it."""

import sys

import pytest

from bench import machine
from bench.__main__ import PARTS, REPEATED, ROUNDS, visits


def test_parts_of_all_rounds_are_in_each_and_the_others_lie_between_once() -> None:
    order = list(visits(list(PARTS), ROUNDS))
    rounds = {name: [number for one, number in order if one == name] for name in PARTS}
    for name, numbers in rounds.items():
        assert numbers == list(range(ROUNDS)) if name in REPEATED else len(numbers) == 1
    assert {rounds[name][0] for name in PARTS if name not in REPEATED} == set(range(ROUNDS))
    assert [number for _, number in order] == sorted(number for _, number in order)


def test_one_round_has_every_part_once() -> None:
    assert sorted(visits(list(PARTS), 1)) == [(name, 0) for name in sorted(PARTS)]


def test_facts_say_which_python_it_is_and_name_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for prefix in ("/usr", "/opt/of/somebody"):
        monkeypatch.setattr(sys, "base_prefix", prefix)
        facts = machine.facts("load")
        assert "profile-guided optimisation: " in facts["Python"]
        assert "/opt" not in facts["Python"]
        assert facts["compiled"] in {"yes", "no"}
