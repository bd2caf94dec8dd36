"""All counter cases, in one table."""

from __future__ import annotations

from difflib import get_close_matches

from convfold.errors import UnknownName
from convfold.studies.bench.counters.cases import Case
from convfold.studies.bench.counters.cases_conv import CONVOLUTIONS
from convfold.studies.bench.counters.cases_products import NOTHING, PRODUCTS
from convfold.studies.bench.counters.cases_sequences import ATTENTION, RECURRENT

__all__ = ["CASES", "case_named"]

CASES: tuple[Case, ...] = (*CONVOLUTIONS, *PRODUCTS, *ATTENTION, *RECURRENT, *NOTHING)


def case_named(name: str) -> Case:
    """The case of that name. Raises UnknownName with the nearest ones."""
    found = {case.name: case for case in CASES}
    if name not in found:
        near = get_close_matches(name, found, 3)
        raise UnknownName(
            "no counter case has this name", got=repr(name), hint=f"Did you mean {', '.join(near)}?" if near else ""
        )
    return found[name]
