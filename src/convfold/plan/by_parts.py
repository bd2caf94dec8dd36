"""Decided below: a model that cannot be captured as a whole is planned by those of its modules that can."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from convfold.algebra import hollow, twin
from convfold.errors import InvalidArgument, Refusal
from convfold.graph import ExampleInputs
from convfold.graph.capture import capture_below
from convfold.plan.by_graph import ByGraph, decide
from convfold.plan.emit import replace_module
from convfold.plan.gate import is_below
from convfold.plan.regions import Region
from convfold.plan.search.price import FREE, Price
from convfold.verify import Certificate

__all__ = ["ByParts", "by_parts"]


@dataclass
class ByParts:
    """Modules of a model, each planned as a graph of its own, by path."""

    model: nn.Module
    inside: dict[str, ByGraph]
    regions: tuple[Region, ...]
    refusals: tuple[Refusal, ...]
    blocking: tuple[Refusal, ...]
    outside: tuple[Refusal, ...]

    @property
    def change(self) -> Price:
        """What all parts save together, as foretold."""
        total = FREE
        for part in self.inside.values():
            total = total.plus(part.change)
        return total

    def without(self, own: frozenset[str], whole: frozenset[str]) -> ByParts:
        """The same with what these forwards compute themselves, or all below them, left as it is, and said why."""
        inside = {}
        for path, part in self.inside.items():
            mine = [
                frozenset(p[len(path) + 1 :] for p in paths if p == path or is_below(p, path)) for paths in (own, whole)
            ]
            inside[path] = part.without(*mine) if mine[0] else part
        return _joined(self.model, inside, self.outside)

    def emit(self) -> tuple[nn.Module, dict[tuple[str, ...], Certificate], list[Refusal]]:
        """The folded copy, a certificate for each region, and a refusal for each that was rolled back."""
        copied, certificates, rolled_back = twin(self.model), {}, []
        for path, part in self.inside.items():
            module, found, undone = part.emit()
            copied = replace_module(copied, path, module)
            certificates |= {tuple(_under(path, p) for p in paths): found[paths] for paths in found}
            rolled_back += [refusal.at(_under(path, refusal.place)) for refusal in undone]
        return copied, certificates, rolled_back

    @property
    def limits(self) -> tuple[str, ...]:
        """The sizes that the plans of the parts hold for, in sentences."""
        return tuple(f"In '{path}': {limit}" for path, part in self.inside.items() for limit in part.limits)

    def shadow(self) -> nn.Module:
        """The structure of the folded copy: what was planned is on the meta device."""
        copied = hollow(self.model)
        for path, part in self.inside.items():
            copied = replace_module(copied, path, part.shadow())
        return copied

    def made(self) -> frozenset[str]:
        """Where modules of the fold stand."""
        return frozenset(_under(path, inner) for path, part in self.inside.items() for inner in part.made())

    def keys(self) -> dict[str, str]:
        """Old names of the state dict to new."""
        keys = {name: name for name in self.model.state_dict()}
        for path, part in self.inside.items():
            own = {name for name in keys if name.startswith(f"{path}.")}
            moved = {_under(path, old): _under(path, new) for old, new in part.keys().items()}
            keys = {name: new for name, new in keys.items() if name not in own} | moved
        return keys

    def drawn(self) -> dict[str, Any]:
        """The graphs of all parts side by side, their numbers moved so that none stands twice."""
        whole: dict[str, Any] = {
            "graphs": {which: {"nodes": [], "edges": []} for which in ("before", "after")},
            "operators": [],
            "laws": [],
        }
        start, first = 0, 0
        for path, part in self.inside.items():
            own = part.drawn(path)
            for which, graph in own["graphs"].items():
                whole["graphs"][which]["nodes"] += [_moved(node, path, start, first) for node in graph["nodes"]]
                whole["graphs"][which]["edges"] += [[a + start, b + start] for a, b in graph["edges"]]
            whole["operators"] += [_moved(row, path, start, first) for row in own["operators"]]
            whole["laws"] += [(number + first, laws) for number, laws in own["laws"]]
            start += len(part.whole.after.values)
            first += len(part.regions)
        return whole


def _moved(row: dict[str, Any], path: str, start: int, first: int) -> dict[str, Any]:
    region = None if row["region"] is None else row["region"] + first
    return {**row, "id": row["id"] + start, "region": region, "module": _under(path, row["module"])}


def _inside(path: str, paths: frozenset[str]) -> frozenset[str]:
    """Those of the paths that lie at or below `path`, as they are called from there."""
    return frozenset(p[len(path) + 1 :] for p in paths if p == path or is_below(p, path))


def _under(path: str, inner: str) -> str:
    return ".".join(name for name in (path, inner) if name)


def by_parts(model: nn.Module, given: ExampleInputs, objective: str, why: InvalidArgument) -> ByParts:
    """Plan what can be captured inside `model`, which cannot itself: `why` says so.

    Raises InvalidArgument where the model does not run on the inputs.
    """
    found, refused = capture_below(model, given)
    inside = {path: decide(model.get_submodule(path), captured, objective) for path, captured in found}
    hint = "What can be captured below it is folded." if inside else ""
    whole = Refusal(type(model).__name__, str(why).rstrip("."), hint=hint)
    return _joined(model, inside, (whole, *refused))


def _joined(model: nn.Module, inside: dict[str, ByGraph], outside: tuple[Refusal, ...]) -> ByParts:
    """The plans of the parts as one; `outside` says what of the model is no part."""
    regions = tuple(
        replace(region, paths=tuple(_under(path, p) for p in region.paths))
        for path, part in inside.items()
        for region in part.regions
    )
    refusals = [r.at(_under(path, r.place)) for path, part in inside.items() for r in part.refusals]
    blocking = [r.at(_under(path, r.place)) for path, part in inside.items() for r in part.blocking]
    return ByParts(model, inside, regions, (*outside, *refusals), tuple(blocking), outside)
