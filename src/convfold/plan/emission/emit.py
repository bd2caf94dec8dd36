"""Emission: the user's own module back, with what the plan changed put where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from convfold.algebra.readings.twin import on_meta, twin
from convfold.errors import NotFoldable, Refusal
from convfold.graph.captured import Captured
from convfold.graph.program import Linear, Program
from convfold.graph.weights import Weights
from convfold.plan.emission.change import Change
from convfold.plan.emission.outcome import Outcome, Solver
from convfold.plan.emission.parts import Builder
from convfold.plan.emission.places import Placed, Places
from convfold.plan.emission.recipes import keys_of, names_in
from convfold.plan.emission.replacement import replacement
from convfold.plan.emission.rewritten import rewrite
from convfold.plan.emission.scope import OutOfReach
from convfold.plan.emission.signature import same_everywhere
from convfold.plan.emission.sums import Part
from convfold.plan.emission.writer import source_of
from convfold.verify import Certificate

__all__ = ["Emitted", "emit"]

How = Literal["replaced", "rewritten", "removed"]


@dataclass
class Emitted:
    """A model emitted.

    * `module`: the copy;
    * `homes`: for each value of the program that is left, the path of the module that computes it;
    * `replaced`: what happened to modules, by path;
    * `keys`: for each name in the original's state dict, the name that its numbers went into;
    * `certificates`: for each value that was redefined, how it compares with the original's (see `check`).
    """

    module: nn.Module
    homes: dict[int, str] = field(default_factory=dict)
    replaced: list[tuple[str, How]] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    certificates: dict[int, Certificate] = field(default_factory=dict)


def emit(captured: Captured, after: Program, model: nn.Module, weights: Callable[[Any], Weights] | None) -> Emitted:
    """A copy of `model` that computes `after`; `model`, which was captured, is not touched.

    `weights` makes an evaluator of maps and biases out of the capture's tensors, one for each value; None gives the
    structure only, on the meta device. Raises NotFoldable where a module cannot take the change.
    """
    change = Change(captured, after)
    outcomes, places, sources = _decide(change, model)
    builder = Builder(change, weights)
    memo: dict[int, Any] = {} if weights is not None else on_meta(model)
    result = Emitted(model)
    training = {path: module.training for path, module in places.modules.items()}
    made: dict[int, list[tuple[str, Part]]] = {}
    for outcome in outcomes:
        _fill(outcome, change, builder, places, memo, made, result)
    fresh = _build(places, builder, memo, made, training)
    for path in places.removed():
        memo[id(places.modules[path])] = nn.Identity().train(training[path])
        result.replaced.append((path, "removed"))
    dropped = _dropped(change, places, sources)
    memo.update({id(tensor): None for tensor in dropped.values()})
    copied = twin(model, memo)
    # A root that was replaced is in the memo itself.
    result.module = copied
    for path, item in fresh:
        _attach(copied, path, item)
    for path, constant in places.constants.items():
        _attach_constant(copied, path, captured.tensor(constant.key), memo, weights is None)
    for path, source in sources.items():
        rewrite(copied.get_submodule(path), source)
        result.replaced.append((path, "rewritten"))
    result.homes = _homes(change, outcomes, made)
    if weights is not None:
        for value in sorted(change.changed - builder.probes.keys()):
            builder.compare(value, weights(captured.tensor))
    result.certificates = builder.probes
    result.keys = _keys(captured, model, copied, made)
    return result


def _decide(change: Change, model: nn.Module) -> tuple[list[Outcome], Places, dict[str, str]]:
    """What becomes of the calls, and the sources of the rewritten ones; again until all calls of a module agree."""
    modules = dict(model.named_modules(remove_duplicate=False))
    calls, writes = change.calls, change.captured.writes
    fixed = frozenset(id(modules[path]) for path in change.captured.hooked)
    fixed |= frozenset(id(modules[calls[number].path]) for number in writes)
    inlined: frozenset[int] = frozenset()
    while True:
        solver = Solver(change, fixed, inlined)
        root = solver.solve(0)
        if root is None:
            raise NotFoldable(Refusal(type(model).__name__, "its forward cannot be written anew"))
        outcomes = list(root.walk())
        apart = same_everywhere(change, outcomes, solver)
        if apart - fixed:
            fixed |= apart
            continue
        lost = [number for number in writes if not _still_runs(number, outcomes, change)]
        if lost:
            path = calls[lost[0]].path
            reason = f"its forward writes to '{writes[lost[0]]}', and would not be called any more"
            raise NotFoldable(Refusal(type(modules[path]).__name__, reason, path))
        outcomes = _one_each(outcomes, modules)
        places = Places(change, outcomes, model)
        sources: dict[str, str] = {}
        for outcome in outcomes:
            if outcome.kind == "rewritten":
                path = outcome.call.path
                places.enter(path)
                try:
                    sources[path] = source_of(change, outcome, modules[path], places)
                except OutOfReach as error:
                    if outcome.call.parent is None:
                        reason = f"its forward cannot be written anew: {error}"
                        raise NotFoldable(Refusal(type(model).__name__, reason)) from error
                    inlined |= {outcome.call.number}
                    break
        else:
            return outcomes, places, sources


def _still_runs(number: int, outcomes: list[Outcome], change: Change) -> bool:
    """Whether a call is made as it was, by its own forward."""
    own = (o.call.number == number and o.kind in ("untouched", "kept") for o in outcomes)
    above = (o.kind == "untouched" and o.call.number <= number < change.end[o.call.number] for o in outcomes)
    return any(own) or any(above)


def _one_each(outcomes: list[Outcome], modules: dict[str, nn.Module]) -> list[Outcome]:
    """One call for each module: its calls come out the same, save that some may not be there any more."""
    found: dict[tuple[int, bool], Outcome] = {}
    for outcome in outcomes:
        found.setdefault((id(modules[outcome.call.path]), outcome.kind == "untouched"), outcome)
    return list(found.values())


def _fill(
    outcome: Outcome,
    change: Change,
    builder: Builder,
    places: Places,
    memo: dict[int, Any],
    made: dict[int, list[tuple[str, Part]]],
    result: Emitted,
) -> None:
    """Put what takes the place of a whole call into the memo of the copy."""
    path, old = outcome.call.path, places.modules[outcome.call.path]
    if outcome.kind == "identity":
        memo[id(old)] = nn.Identity().train(old.training)
        result.replaced.append((path, "removed"))
    elif outcome.kind == "replaced":
        memo[id(old)] = replacement(outcome, change, builder, old.training, made)
        result.replaced.append((path, "replaced"))


def _build(
    places: Places,
    builder: Builder,
    memo: dict[int, Any],
    made: dict[int, list[tuple[str, Part]]],
    training: dict[str, bool],
) -> list[tuple[str, Any]]:
    """Build the parts of rewritten forwards, one value at a time; those with new names are returned."""
    by_value: dict[int, list[Placed]] = {}
    for placed in places.placed:
        by_value.setdefault(placed.part.value, []).append(placed)
    fresh = []
    for value, group in by_value.items():
        mode = training[group[0].path.rpartition(".")[0]]
        for placed, new in zip(group, builder.build([p.part for p in group], mode), strict=True):
            made.setdefault(value, []).append((placed.path, placed.part))
            if placed.old is None:
                fresh.append((placed.path, new))
            else:
                memo[id(placed.old)] = new
    return fresh


def _dropped(change: Change, places: Places, sources: dict[str, str]) -> dict[str, Tensor]:
    """Tensors of rewritten modules that only what is gone has read."""
    captured, found = change.captured, {}
    inlined = places.inlined
    alive = change.constants(change.live - change.changed - inlined) | change.constants(inlined, named=True)
    alive |= places.used
    gone = {n for v in change.was for key in _keys_behind(change, v) for n in names_in(captured, key)} - alive
    gone |= change.constants(change.was) - alive
    for path in sources:
        module = places.modules[path]
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            full = f"{path}.{name}" if path else name
            statistics = name == "num_batches_tracked" and f"{full[: -len(name)]}running_mean" in gone
            if tensor is not None and (full in gone or statistics):
                found[full] = tensor
    held = {id(t) for n, t in _tensors(places.model) if n not in found}
    return {name: tensor for name, tensor in found.items() if id(tensor) not in held}


def _keys_behind(change: Change, value: int) -> Iterable[Any]:
    node = change.before.nodes.get(value)
    return keys_of(*(t.map for t in node.terms), node.shift) if isinstance(node, Linear) else ()


def _tensors(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _attach(model: nn.Module, path: str, item: Any) -> None:
    above, _, name = path.rpartition(".")
    parent = model.get_submodule(above)
    if isinstance(item, nn.Module):
        parent.add_module(name, item)
    elif isinstance(item, nn.Parameter):
        parent.register_parameter(name, item)
    else:
        parent.register_buffer(name, item)


def _attach_constant(model: nn.Module, path: str, tensor: Tensor, memo: dict[int, Any], hollow: bool) -> None:
    """A tensor of the model's own is held twice; what was computed of others is a buffer."""
    held = memo.get(id(tensor))
    if held is None:
        held = torch.empty_like(tensor, device="meta") if hollow else tensor.detach().clone()
    _attach(model, path, held)


def _homes(change: Change, outcomes: list[Outcome], made: dict[int, list[tuple[str, Part]]]) -> dict[int, str]:
    homes = {value: change.calls[number].path for value, number in change.home.items()}
    for outcome in outcomes:
        homes |= {unit.value: outcome.call.path for unit in outcome.units if unit.outcome is None}
    for value, parts in made.items():
        convs = [path for path, part in parts if part.role == "conv"]
        homes |= {value: convs[0]} if convs else {}
    return homes


def _keys(
    captured: Captured, model: nn.Module, copied: nn.Module, made: dict[int, list[tuple[str, Part]]]
) -> dict[str, str]:
    """Kernels go to the weight of what takes them in, vectors to its bias where it has one."""
    into: dict[str, dict[str, None]] = {}
    present, state = copied.state_dict(), model.state_dict()
    for parts in made.values():
        for path, part in parts:
            kernels = keys_of(part.term.map if part.term is not None else None, part.shift)
            weight, bias = (f"{path}.{leaf}" if path else leaf for leaf in ("weight", "bias"))
            for name in dict.fromkeys(n for key in kernels for n in names_in(captured, key)):
                wide = name in state and state[name].dim() > 1
                new = [weight, bias] if wide else [bias, weight]
                for target in (*new, path, f"{path}.planned"):
                    if target in present:
                        into.setdefault(name, {})[target] = None
    kept = {name: name for name in state if name in present and name not in into}
    return kept | {name: next(iter(into[name])) for name in state if name in into}
