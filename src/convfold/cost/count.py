"""Counting one forward pass: on meta tensors where the model allows it, else in a real run of a copy."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from convfold.algebra import hollow, twin
from convfold.cost.counting.counter import Failure, OperatorCounter
from convfold.cost.counting.leaves import tensors
from convfold.cost.memory.observer import MemoryObserver
from convfold.cost.rank import degrees_of_freedom
from convfold.cost.receptive.observer import ReceptiveObserver
from convfold.cost.report import CostReport, Row
from convfold.cost.training import training_step
from convfold.errors import InvalidArgument, InvalidType
from convfold.graph.inputs import ExampleInputs, describe, example_inputs

__all__ = ["cost", "counted"]

_LONGEST = 300  # characters of a complaint that are worth a place in one sentence


@dataclass
class _Run:
    """One counted pass: the counter, and what watched it; `sizes` is the largest field of an output."""

    counter: OperatorCounter
    memory: MemoryObserver | None = None
    receptive: ReceptiveObserver | None = None
    sizes: tuple[int, ...] = ()
    reason: str = ""


def cost(model: nn.Module, inputs: object, *, training: bool = False) -> CostReport:
    """Count what ``model(inputs)`` executes in eval mode, what it holds and moves, and what its results depend on.

    `inputs` is a tensor, a tuple of positional inputs or a dict of keyword inputs. The count is made on a
    copy of the model whose weights are meta tensors: no memory for weights or activations, no arithmetic.
    A model that reads values (``item``, a mask, a loop over data) is run once for real, on a deep copy
    under ``no_grad``, and `CostReport.real_run` says why. `model` itself is never touched. With `training` a
    step of training, forward and backward in train mode, is counted as well, as `CostReport.training`.

    Raises InvalidType for inputs of a wrong kind, InvalidArgument when the model does not run on them
    (the sentence names the input, what it was and the model's own complaint), has lazy parameters or
    cannot be copied; with `training` also when no output depends on a parameter that is trained.
    """
    report = _cost(model, inputs, watch=_device(model))
    return replace(report, training=training_step(model, inputs)) if training else report


def counted(model: nn.Module, inputs: object) -> CostReport:
    """As `cost`, of work alone: bytes made, held and moved and receptive fields are left at 0. Half the time."""
    return _cost(model, inputs, watch=None)


def _device(model: object) -> torch.device:
    """Where the model would run: where its first parameter is, a CPU when that is nowhere yet."""
    tensor = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if tensor is None or tensor.is_meta else tensor.device


def _cost(model: nn.Module, inputs: object, watch: torch.device | None) -> CostReport:
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
        run = _counted(hollow(model).eval(), given.map(_as_meta), watch, meta=True)
    except Exception as refusal:
        # Whatever meta tensors cannot do is told by what the model itself says to real ones.
        run = _real_run(model, given, watch)
        run.reason = _one_line(refusal)
    return _report(model, run)


def _as_meta(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta")


def _started(model: nn.Module, given: ExampleInputs, watch: torch.device | None, *, meta: bool) -> _Run:
    """Ready to count `model`, a copy made for it; watched as it would run on a device."""
    if watch is None:
        return _Run(OperatorCounter(model, given, meta=meta))
    memory, receptive = MemoryObserver.on(watch), ReceptiveObserver(given)
    return _Run(OperatorCounter(model, given, meta=meta, observers=(memory, receptive)), memory, receptive)


def _counted(model: nn.Module, given: ExampleInputs, watch: torch.device | None, *, meta: bool) -> _Run:
    run = _started(model, given, watch, meta=meta)
    _forward(model, given, run)
    return run


def _forward(model: nn.Module, given: ExampleInputs, run: _Run) -> None:
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]), run.counter:
        out = given.call(model)
    if run.receptive is not None:
        fields = [run.receptive.of(tensor).sizes for tensor in tensors(out)]
        run.sizes = max(fields, key=lambda sizes: max(sizes, default=0), default=())


def _real_run(model: nn.Module, given: ExampleInputs, watch: torch.device | None) -> _Run:
    try:
        copied = twin(model).eval()
    except Exception as error:
        raise InvalidArgument(
            f"the model cannot be copied ({_one_line(error)})",
            where=type(model).__name__,
            hint="Counting works on a copy, so that the model stays as it is.",
        ) from error
    given = given.map(lambda tensor: tensor.detach().clone())
    run = _started(copied, given, watch, meta=False)
    try:
        _forward(copied, given, run)
    except Exception as error:
        raise _refused(copied, given, run.counter.failure, error) from error
    return run


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


def _report(model: nn.Module, run: _Run) -> CostReport:
    first = {module: path for path, module in model.named_modules()}
    held, weight_bytes = _held(first)
    counter, memory = run.counter, run.memory
    made = {} if memory is None else memory.activation_by_module
    moved = {} if memory is None else memory.traffic_by_module
    fields = {} if run.receptive is None else run.receptive.by_module
    modules = {} if memory is None else {path: module for module, path in first.items()}
    rows = tuple(
        Row(
            path=path,
            type=tally.type,
            macs=tally.macs,
            convolutions=tally.convolutions,
            operators=tally.operators,
            params=held[path],
            inputs=tally.inputs,
            outputs=tally.outputs,
            flops=tally.flops,
            weight_bytes=weight_bytes[path],
            activation_bytes=made.get(path, 0),
            traffic_bytes=moved.get(path, 0),
            receptive_field=fields[path].sizes if path in fields else (),
            degrees_of_freedom=_freedom(modules[path], held[path]) if modules else 0,
            kernel=_kernel(modules[path]) if modules else None,
        )
        for path, tally in counter.finish().items()
    )
    return CostReport(
        model=type(model).__name__,
        macs=sum(row.macs for row in rows),
        convolutions=sum(row.convolutions for row in rows),
        operators=sum(row.operators for row in rows),
        params=sum(held.values()),
        weight_bytes=sum(weight_bytes.values()),
        rows=rows,
        uncounted=dict(counter.uncounted),
        real_run=run.reason,
        held=held,
        names={path: first[module] for path, module in model.named_modules(remove_duplicate=False)},
        flops=sum(row.flops for row in rows),
        activation_bytes=0 if memory is None else memory.activation_bytes,
        peak_bytes=0 if memory is None else memory.peak_bytes,
        traffic_bytes=0 if memory is None else memory.traffic_bytes,
        receptive_field=max(run.sizes, default=0),
    )


def _held(first: dict[nn.Module, str]) -> tuple[dict[str, int], dict[str, int]]:
    """Elements of parameters, and bytes of parameters and buffers, that each module is the first to hold."""
    seen: set[Tensor] = set()
    elements: dict[str, int] = {}
    weight_bytes: dict[str, int] = {}
    for module, path in first.items():
        parameters = set(module.parameters(recurse=False)) - seen
        buffers = set(module.buffers(recurse=False)) - seen
        elements[path] = sum(parameter.numel() for parameter in parameters)
        weight_bytes[path] = sum(tensor.numel() * tensor.element_size() for tensor in parameters | buffers)
        seen |= parameters | buffers
    return elements, weight_bytes


def _freedom(module: nn.Module, own: int) -> int:
    # What a module with others inside holds itself; those have rows of their own.
    return own if next(module.children(), None) is not None else degrees_of_freedom(module)


def _kernel(module: nn.Module) -> tuple[Tensor, int] | None:
    """The kernel of a convolution or a linear layer, outputs first, with its groups."""
    if not isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
        return None
    # A weight that is computed is left alone: to ask for it may change the model (spectral_norm).
    own = dict(module.named_parameters(recurse=False)).get("weight")
    if own is None:
        return None
    weight, groups = own.detach(), int(getattr(module, "groups", 1))
    if getattr(module, "transposed", False):
        blocks = weight.unflatten(0, (groups, -1)).transpose(1, 2)
        weight = blocks.flatten(0, 1)
    return weight, groups
