"""The arguments of decompose, read and held against one another before any work."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass

from torch import nn

from convfold.errors import InvalidArgument, InvalidType
from convfold.transform.decompose.data import Samples, read_data
from convfold.transform.decompose.method import Method
from convfold.transform.decompose.methods import find_method
from convfold.transform.decompose.ranks import AnyRank, as_rank, check_rank

__all__ = ["INPUTS", "Asked", "read_arguments"]

INPUTS = ("original", "compressed")


@dataclass(frozen=True)
class Asked:
    """What was asked for; one of `rank`, `max_error`, `target_macs` and `total_error` is not None."""

    method: Method
    rank: AnyRank | None
    max_error: float | None
    target_macs: int | float | None
    total_error: float | None
    samples: Samples | None
    example_inputs: object
    only_cheaper: bool | None
    inputs: str

    @property
    def sizes_known(self) -> bool:
        return self.samples is not None or self.example_inputs is not None


def read_arguments(
    model: object,
    method: str,
    rank: AnyRank | None,
    max_error: float | None,
    target_macs: int | float | None,
    total_error: float | None,
    data: object,
    example_inputs: object,
    only_cheaper: bool | None,
    inputs: str,
) -> Asked:
    """Raises InvalidArgument or InvalidType, in a sentence, for what cannot be done on any model."""
    if not isinstance(model, nn.Module):
        raise InvalidType("decompose reads modules", got=type(model).__name__, expected="torch.nn.Module")
    found = find_method(method)
    rank = as_rank(rank)
    goals = {"rank": rank, "max_error": max_error, "target_macs": target_macs, "total_error": total_error}
    given = [name for name, value in goals.items() if value is not None]
    if len(given) != 1:
        raise InvalidArgument(
            "decompose takes one measure of how far to go",
            got=" and ".join(given) or "none",
            expected=f"one of {', '.join(goals)}",
        )
    for name in ("max_error", "total_error"):
        if goals[name] is not None:
            _check_error(name, goals[name])
    if target_macs is not None:
        _check_target(target_macs)
    if rank is not None and not isinstance(rank, dict):
        check_rank(rank, found)
    if rank == {}:
        raise InvalidArgument("rank names no layer", got="{}", expected="a rank by path or glob")
    if inputs not in INPUTS:
        near = difflib.get_close_matches(str(inputs), INPUTS, 1, 0.4)
        hint = f"Did you mean {near[0]!r}?" if near else ""
        raise InvalidArgument(
            "no such inputs", where="inputs", got=repr(inputs), expected=" or ".join(INPUTS), hint=hint
        )
    if inputs == "compressed" and data is None:
        raise InvalidArgument("inputs of the compressed model are seen on data", where="inputs", hint="Give data=.")
    samples = None if data is None else read_data(model, data)
    if target_macs is not None and samples is None and example_inputs is None:
        raise InvalidArgument(
            "the MACs of a model depend on the size of its inputs", where="target_macs", hint="Give example_inputs=."
        )
    return Asked(found, rank, max_error, target_macs, total_error, samples, example_inputs, only_cheaper, inputs)


def _check_error(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidType("this is no error", where=name, got=type(value).__name__, expected="a number")
    if not value >= 0 or math.isinf(value):
        raise InvalidArgument("an error is neither negative nor infinite", where=name, got=value)


def _check_target(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidType(
            "this is no number of MACs",
            where="target_macs",
            got=type(value).__name__,
            expected="an integer or a fraction",
        )
    if isinstance(value, float) and not 0 < value <= 1:
        raise InvalidArgument(
            "a fraction of the model's MACs lies above 0 and at most at 1", where="target_macs", got=value,
            hint="A number of MACs is an integer.",
        )  # fmt: skip
    if isinstance(value, int) and value < 1:
        raise InvalidArgument("a model has at least one MAC", where="target_macs", got=value)
