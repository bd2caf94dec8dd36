"""Counting one forward pass: on meta tensors where the model allows it, else in a real run of a copy."""

from __future__ import annotations

import traceback
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from convfold.algebra import hollow, twin
from convfold.cost.counter import Failure, OperatorCounter
from convfold.cost.report import CostReport, Row
from convfold.errors import InvalidArgument, InvalidType
from convfold.graph.inputs import ExampleInputs, describe, example_inputs

__all__ = ["cost"]

_LONGEST = 300  # characters of a complaint that are worth a place in one sentence


def cost(model: nn.Module, inputs: object) -> CostReport:
    """Count what ``model(inputs)`` executes in eval mode.

    `inputs` is a tensor, a tuple of positional inputs or a dict of keyword inputs. The count is made on a
    copy of the model whose weights are meta tensors: no memory for weights or activations, no arithmetic.
    A model that reads values (``item``, a mask, a loop over data) is run once for real, on a deep copy
    under ``no_grad``, and `CostReport.real_run` says why. `model` itself is never touched.

    Raises InvalidType for inputs of a wrong kind, InvalidArgument when the model does not run on them
    (the sentence names the input, what it was and the model's own complaint), has lazy parameters or
    cannot be copied.
    """
    if not isinstance(model, nn.Module):
        raise InvalidType("cost counts modules", got=type(model).__name__, expected="torch.nn.Module")
    given = example_inputs(model, inputs)
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            raise InvalidArgument(
                "the parameter has no shape yet",
                where=name,
                hint="Run a lazy module once on a batch before counting it.",
            )
    try:
        counter = _count(hollow(model).eval(), given.map(_as_meta), meta=True)
        reason = ""
    except Exception as refusal:
        # Whatever meta tensors cannot do is told by what the model itself says to real ones.
        counter = _real_run(model, given)
        reason = _one_line(refusal)
    return _report(model, counter, reason)


def _as_meta(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta")


def _count(model: nn.Module, given: ExampleInputs, *, meta: bool) -> OperatorCounter:
    counter = OperatorCounter(model, given, meta=meta)
    _forward(model, given, counter)
    return counter


def _forward(model: nn.Module, given: ExampleInputs, counter: OperatorCounter) -> None:
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]), counter:
        given.call(model)


def _real_run(model: nn.Module, given: ExampleInputs) -> OperatorCounter:
    try:
        copied = twin(model).eval()
    except Exception as error:
        raise InvalidArgument(
            f"the model cannot be copied ({_one_line(error)})",
            where=type(model).__name__,
            hint="Counting works on a copy, so that the model stays as it is.",
        ) from error
    given = given.map(lambda tensor: tensor.detach().clone())
    counter = OperatorCounter(copied, given, meta=False)
    try:
        _forward(copied, given, counter)
    except Exception as error:
        raise _refused(copied, given, counter.failure, error) from error
    return counter


def _refused(model: nn.Module, given: ExampleInputs, failure: Failure | None, error: Exception) -> InvalidArgument:
    values = given.named()
    blamed = [name for name in values if failure is not None and name in failure.inputs] or list(values)
    place = _place(model, error)
    if failure is not None:
        place += f", in {failure.operator} on {failure.got}"
    return InvalidArgument(
        f"{type(model).__name__} does not run on this example input ({_one_line(error)})",
        where=" and ".join(blamed),
        got=" and ".join(describe(values[name]) for name in blamed),
        hint=f"It failed in {place}.",
    )


def _place(model: nn.Module, error: Exception) -> str:
    """The innermost module of `model` that was running when `error` was raised."""
    names = {module: path for path, module in model.named_modules()}
    running = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    inner = next((m for m in reversed(running) if isinstance(m, nn.Module) and m in names), model)
    return f"{names[inner]} ({type(inner).__name__})" if names[inner] else f"{type(inner).__name__}.forward"


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return text.rstrip(".")


def _report(model: nn.Module, counter: OperatorCounter, reason: str) -> CostReport:
    first = {module: path for path, module in model.named_modules()}
    seen: set[Tensor] = set()
    held: dict[str, int] = {}
    for module, path in first.items():
        own = set(module.parameters(recurse=False)) - seen
        held[path] = sum(parameter.numel() for parameter in own)
        seen |= own
    rows = tuple(
        Row(path, t.type, t.macs, t.convolutions, t.operators, held[path], t.inputs, t.outputs)
        for path, t in counter.finish().items()
    )
    return CostReport(
        model=type(model).__name__,
        macs=sum(row.macs for row in rows),
        convolutions=sum(row.convolutions for row in rows),
        operators=sum(row.operators for row in rows),
        params=sum(held.values()),
        weight_bytes=sum(t.numel() * t.element_size() for t in {*model.parameters(), *model.buffers()}),
        rows=rows,
        uncounted=dict(counter.uncounted),
        real_run=reason,
        held=held,
        names={path: first[module] for path, module in model.named_modules(remove_duplicate=False)},
    )
