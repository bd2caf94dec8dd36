"""lower: a model without the operators that a piece of hardware lacks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Literal, overload

from torch import nn

from convfold.algebra import copy_hooks, defines_op, has_op, twin
from convfold.cost import counted
from convfold.errors import ConvfoldError, InvalidArgument, InvalidType, NotEqual
from convfold.graph import ExampleInputs, example_inputs, flow_of
from convfold.plan.emit import replace_module
from convfold.transform.lower.guards import closed_layers, settled, tied_layers
from convfold.transform.lower.layer import LAYERS, Lowered, Unreached, compared, lowered_layer, seen_of
from convfold.transform.lower.report import LoweredLayer, LoweringReport, NotLowered
from convfold.transform.lower.target import Target, find_target
from convfold.transform.lower.watch import Watched, watch
from convfold.verify import verify

__all__ = ["lower"]

Given = str | os.PathLike[str] | Target


@overload
def lower(
    model: nn.Module, inputs: object, target: Given, *, report: Literal[False] = False, partial: bool = False
) -> nn.Module: ...
@overload
def lower(
    model: nn.Module, inputs: object, target: Given, *, report: Literal[True], partial: bool = False
) -> tuple[nn.Module, LoweringReport]: ...
def lower(
    model: nn.Module, inputs: object, target: Given, *, report: bool = False, partial: bool = False
) -> nn.Module | tuple[nn.Module, LoweringReport]:
    """A copy of `model` that computes the same without the operators that `target` excludes.

    ``lower(model, inputs, target)(x) = model(x)``: each nn.Conv, nn.ConvTranspose and, on maps, nn.Linear that breaks
    a rule of the target is replaced by modules that break none; everything else of the user's model stays. Every
    replacement is compared with its layer in float64, on inputs of the shapes that the layer gets in
    ``model(*inputs)``, and rolled back where it is not equal; then the whole models are compared by `verify`.

    `target` is a name (see `targets`), the path of a ``.toml`` file, or a `Target`. `inputs` is a tensor, a tuple of
    positional inputs or a dict of keyword inputs. A layer called several times is replaced once. Hooks stay on what
    takes a layer's place. With ``report=True`` the result is (model, LoweringReport).

    Raises UnknownName for a target that does not exist, and InvalidArgument where it is not reached, naming what is
    left: an operator that a forward calls itself, a layer with shared weights that are still trained, rules that undo
    each other. With ``partial=True`` the rest is lowered, and the report lists them. Raises NotEqual where the whole
    does not compute the same.
    """
    if not isinstance(model, nn.Module):
        raise InvalidType("lower rewrites modules", got=type(model).__name__, expected="torch.nn.Module")
    wanted, given = find_target(target), example_inputs(model, inputs)
    exposed = flow_of(model, inputs).exposed
    watched = watch(model, given)
    closed, ties = closed_layers(model, exposed), tied_layers(model)
    lowered, rows, refusals, left = twin(model), list[LoweredLayer](), list[NotLowered](), set[str]()
    for path, layer, shapes in _called(lowered, watched):
        seen = seen_of(layer, [s for s in shapes if s is not None])
        if wanted.broken(seen) is None:
            continue
        done = _replacement(lowered, path, layer, shapes, wanted, closed, ties)
        if isinstance(done, NotLowered):
            refusals.append(done)
            left.add(path)
            continue
        new, row = done
        copy_hooks(layer, new)
        lowered = replace_module(lowered, path, new)
        rows.append(row)
    refusals += _still(lowered, given, wanted, left)
    if refusals and not partial:
        raise _not_reached(model, wanted, refusals)
    certificate = verify(model, lowered, inputs)
    if not certificate:
        got, bound = f"an error of {certificate.error:.1e}", f"at most {certificate.bound:.1e}"
        raise NotEqual(
            "the lowered model does not compute the same", where=type(model).__name__, got=got, expected=bound
        )
    if not report:
        return lowered
    before, after = counted(model, inputs), counted(lowered, inputs)
    notes = tuple(_notes(model, watched, wanted))
    return lowered, LoweringReport(
        wanted.name, tuple(rows), tuple(refusals), notes, before.macs, after.macs, certificate
    )


def _called(model: nn.Module, watched: Watched) -> list[tuple[str, nn.Module, list[tuple[int, ...] | None]]]:
    """The layers that ran, each under its first name, with the shapes of their calls; none inside a block."""
    inside: list[str] = []
    found: list[tuple[str, nn.Module, list[tuple[int, ...] | None]]] = []
    for path, module in model.named_modules():
        if any(outer == "" or path.startswith(f"{outer}.") for outer in inside):
            continue
        if defines_op(module):
            inside.append(path)
        elif isinstance(module, LAYERS) and has_op(module) and path in watched.calls:
            found.append((path, module, watched.calls[path]))
    return found


def _replacement(
    model: nn.Module,
    path: str,
    layer: nn.Module,
    calls: list[tuple[int, ...] | None],
    target: Target,
    closed: dict[str, tuple[str, str]],
    ties: dict[str, list[str]],
) -> tuple[nn.Module, LoweredLayer] | NotLowered:
    """What takes the place of the layer and its row, or why nothing does."""
    shapes = [shape for shape in calls if shape is not None]
    name = str(seen_of(layer, shapes))
    if path in closed:
        return NotLowered(name, *_swapped(closed[path], path))
    if len(shapes) < len(calls):
        return NotLowered(name, "it is called with more than its input", path)
    own = settled(layer)
    try:
        done = lowered_layer(own, target, shapes)
    except (Unreached, ConvfoldError) as error:
        return NotLowered(name, str(error).rstrip("."), path)
    certificate = compared(own, done.module, shapes)
    if not certificate:
        return NotLowered(name, certificate.complaint, path, "Please report it.")
    was, now = (sum(_macs(module, shape) for shape in shapes) for module in (own, done.module))
    note = _note(layer, done, ties.get(path, ()), was, now)
    after = _described(done.module)
    row = LoweredLayer(path, ", ".join(done.rules), name, after, was, now, certificate.error, certificate.bound, note)
    return done.module, row


def _swapped(reason: tuple[str, str], path: str) -> tuple[str, str, str]:
    return reason[0], path, reason[1]


def _macs(module: nn.Module, shape: tuple[int, ...]) -> int:
    weight = next(module.parameters())
    return counted(module, weight.new_empty(shape, device="meta")).macs


def _described(module: nn.Module) -> str:
    """The steps in order; alike ones once, with their number."""
    parts: list[str] = []
    for part in module.modules():
        if isinstance(part, LAYERS):
            parts.append(str(_seen(part)))
        elif type(part).__module__.startswith("convfold."):
            parts.append(f"{type(part).__name__}({part.extra_repr()})" if part.extra_repr() else type(part).__name__)
    return "; ".join(f"{part} x{count}" if count > 1 else part for part, count in Counter(parts).items())


def _seen(layer: nn.Module) -> object:
    return seen_of(layer, [])


def _note(layer: nn.Module, done: Lowered, ties: Sequence[str], was: int, now: int) -> str:
    notes = []
    if now > was:
        notes.append(f"MACs x{now / was:.3g}: {'; '.join(done.dearer) or 'maps between stages are larger'}")
    if ties:
        notes.append(f"its weight was shared with {', '.join(ties)}, and is its own now")
    if hasattr(layer, "parametrizations"):
        notes.append("its parametrisation is worked into the weight")
    return "; ".join(notes)


def _still(model: nn.Module, given: ExampleInputs, target: Target, left: set[str]) -> list[NotLowered]:
    """What a run of the lowered model executes that breaks the target, layers that were refused aside."""
    found: dict[tuple[str, str], NotLowered] = {}
    complaint = "the lowered model does not run: a forward reads what a layer was"
    for path, kind, seen in watch(model, given, complaint).executed:
        rule = target.broken(seen)
        if rule is None or path in left or (path, str(seen)) in found:
            continue
        whole = model.get_submodule(path)
        fold = any(defines_op(m) for m in (whole, *_outer(model, path)))
        hint = "convfold.fold makes one plain layer of a block." if fold else "Call a module of torch.nn there."
        reason = f"{kind}.forward executes it itself, and no rule rewrites the code of a forward"
        found[path, str(seen)] = NotLowered(str(seen), reason, path, hint)
    return list(found.values())


def _outer(model: nn.Module, path: str) -> list[nn.Module]:
    names = path.split(".")
    return [model.get_submodule(".".join(names[:i])) for i in range(len(names))]


def _not_reached(model: nn.Module, target: Target, refusals: list[NotLowered]) -> InvalidArgument:
    more = f"; and {len(refusals) - 3} more" if len(refusals) > 3 else ""
    return InvalidArgument(
        f"the target {target.name} is not reached",
        where=type(model).__name__,
        got="; ".join(str(refusal).rstrip(".") for refusal in refusals[:3]) + more,
        hint="With partial=True the rest is lowered, and the report lists what is left.",
    )


def _notes(model: nn.Module, watched: Watched, target: Target) -> list[str]:
    """What is no business of the target, said where somebody would ask."""
    notes = []
    vectors = sorted({path for path, _, seen in watched.executed if seen.kind == "linear" and not seen.maps})
    if vectors and any(rule.name == "pointwise" for rule in target.rules):
        notes.append(f"Matrix products on vectors stay, as they are no convolution: {', '.join(vectors)}.")
    idle = [
        path
        for path, m in model.named_modules()
        if isinstance(m, LAYERS[:-1]) and has_op(m) and path not in watched.calls and target.broken(seen_of(m, []))
    ]
    if idle:
        notes.append(f"Not called on these inputs, and left as they are: {', '.join(idle)}.")
    return notes
