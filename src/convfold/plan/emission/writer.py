"""The source of a rewritten forward: one statement per value, names from modules and operators."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from convfold.graph.captured import Call, Constant, Ref, Size, Step
from convfold.graph.program import Concat, Elementwise, Linear, Opaque, Spatial
from convfold.plan.emission.change import Change, refs
from convfold.plan.emission.outcome import Outcome, Unit
from convfold.plan.emission.repeat import repeated_step
from convfold.plan.emission.scope import Scope, UnknownSize, paths
from convfold.plan.emission.spelling import imports, literal, spell, tree
from convfold.plan.emission.sums import Part, spell_sum

__all__ = ["Namer", "source_of"]

_SIMPLE = (int, float, bool, str, type(None))


class Namer:
    """How a forward names what its module holds: parts of new definitions, constants, modules below."""

    def restart(self) -> None:
        """Forget what was named since the module was entered."""
        raise NotImplementedError

    def part(self, part: Part) -> str:
        raise NotImplementedError

    def constant(self, constant: Constant) -> str:
        raise NotImplementedError

    def module(self, path: str) -> str:
        raise NotImplementedError


def source_of(change: Change, outcome: Outcome, module: nn.Module, namer: Namer) -> str:
    """The forward of a rewritten call as source. Raises OutOfReach for what cannot be named inside."""
    try:
        return _Writer(change, outcome, module, namer).write(False)
    except UnknownSize:
        # The arguments have it, if they are kept for as long.
        namer.restart()
        return _Writer(change, outcome, module, namer).write(True)


class _Writer:
    def __init__(self, change: Change, outcome: Outcome, module: nn.Module, namer: Namer) -> None:
        self.change, self.outcome, self.module, self.namer = change, outcome, module, namer
        self.signature = inspect.signature(module.forward)
        taken = {"self", "torch", "F", *self.signature.parameters}
        self.scope = Scope(change.captured.sizes, taken)
        self.imports: set[str] = set()
        self.last: dict[int, int] = {}

    def write(self, hold: bool) -> str:
        """The source; with `hold` the arguments keep their names to the end."""
        call, units = self.outcome.call, self.outcome.units
        self._bind_arguments(call)
        for index, unit in enumerate(units):
            self.last.update(dict.fromkeys(unit.needs, index))
        results = [self.change.label(v) for v in refs(call.output)]
        self.last.update({v: len(units) for v in results if v is not None})
        if hold:
            self.last.update(
                {v: len(units) for v in map(self.change.label, refs(call.args, call.kwargs)) if v is not None}
            )
        lines = []
        for index, unit in enumerate(units):
            lines += self._statement(unit, index, index == len(units) - 1)
        if not lines or not lines[-1].startswith("return "):
            self.imports |= imports(call.output)
            result = tree(call.output, self._leaf)
            lines.append(f"return {_open(result)}")
        head = f"def forward({', '.join(['self', *self._parameters()])}):"
        body = "\n".join(f"    {line}" for line in lines)
        before = "".join(f"{line}\n" for line in sorted(self.imports))
        return f"{before}\n\n{head}\n{body}\n" if before else f"{head}\n{body}\n"

    def _parameters(self) -> list[str]:
        shown, starred = [], False
        for name, parameter in self.signature.parameters.items():
            if parameter.kind is parameter.VAR_POSITIONAL:
                shown.append(f"*{name}")
                starred = True
                continue
            if parameter.kind is parameter.VAR_KEYWORD:
                shown.append(f"**{name}")
                continue
            if parameter.kind is parameter.KEYWORD_ONLY and not starred:
                shown.append("*")
                starred = True
            default = parameter.default
            if default is parameter.empty:
                shown.append(name)
            else:
                # What was passed is part of the code below, so no default but a plain one is ever looked at.
                shown.append(f"{name}={literal(default) if isinstance(default, _SIMPLE) else 'None'}")
        return shown

    def _bind_arguments(self, call: Call) -> None:
        bound = self.signature.bind(*call.args, **call.kwargs)
        for name, given in bound.arguments.items():
            for leaf, text in paths(given, name):
                label = self.change.label(leaf.value) if isinstance(leaf, Ref) else None
                if label is not None:
                    self.scope.bind(label, text)

    def _leaf(self, leaf: Any) -> str:
        if isinstance(leaf, Size):
            return self.scope.device() if leaf.expression == "device" else self.scope.size(leaf.expression)
        if isinstance(leaf, Constant):
            return self.namer.constant(leaf)
        label = self.change.label(leaf.value)
        return self.scope.var(label) if label is not None and self.scope.has(label) else "None"

    def _statement(self, unit: Unit, index: int, final: bool) -> list[str]:
        """The line that gives a unit's values; the last one returns, where it gives just the result."""
        output = self.outcome.call.output
        if unit.outcome is not None:
            call = unit.outcome.call
            child = self._child(call)
            plain = unit.outcome.kind == "untouched" and type(child) is nn.Identity and len(unit.gives) == 1
            if plain or unit.outcome.kind == "identity":
                self.scope.bind(unit.gives[0], self.scope.var(unit.needs[0]))
                self._keep(unit.gives[0], unit.needs[0])
                return []
            self.imports |= imports((call.args, call.kwargs))
            args = [tree(value, self._leaf) for value in call.args]
            args += [f"{name}={tree(value, self._leaf)}" for name, value in call.kwargs.items()]
            text = f"{self.namer.module(call.path)}({', '.join(args)})"
            hint, results = _hint(call.path, child), call.output
        else:
            text, hint = self._definition(unit.value)
            results = Ref(unit.value)
        done = [value for value in dict.fromkeys(unit.needs) if self.last.get(value) == index]
        whole = isinstance(results, Ref) and isinstance(output, Ref)
        if final and whole and self.change.label(results.value) == self.change.label(output.value):
            return [f"return {text}"]
        return self._assign(results, text, hint, unit, self.scope.forget(done))

    def _keep(self, value: int, source: int) -> None:
        """Two values of one name: it is needed until neither is read."""
        self.last[source] = max(self.last.get(source, -1), self.last.get(value, -1))
        self.last[value] = self.last[source]

    def _child(self, call: Call) -> nn.Module:
        return self.change.captured.model.get_submodule(call.path)

    def _assign(self, results: Any, text: str, hint: str, unit: Unit, free: list[str]) -> list[str]:
        wanted = set(unit.gives)
        names = iter(free)

        def target(item: Any) -> str | None:
            if isinstance(item, Ref):
                label = self.change.label(item.value)
                if label not in wanted or label is None or label not in self.last:
                    return "_"
                wanted.discard(label)
                name = next(names, None) or self.scope.fresh(hint)
                self.scope.bind(label, name)
                return name
            if type(item) in (tuple, list) and item:
                parts = [target(part) for part in item]
                return None if None in parts else f"({', '.join(map(str, parts))}{',' if len(parts) == 1 else ''})"
            return None

        if all(isinstance(leaf, Ref) for leaf, _ in paths(results, "")) and not isinstance(results, dict):
            shown = target(results)
            if shown is not None:
                return [f"{_open(shown)} = {text}"]
        name = self.scope.fresh(hint)
        for leaf, path in paths(results, name):
            label = self.change.label(leaf.value) if isinstance(leaf, Ref) else None
            if label in wanted and label is not None:
                self.scope.bind(label, path)
        return [f"{name} = {text}"]

    def _definition(self, value: int) -> tuple[str, str]:
        change = self.change
        # What is redefined without being linear has its constants baked; its operator is the same.
        if value not in change.changed or isinstance(change.after.nodes[value], Opaque):
            step = change.steps[value]
            self.imports |= imports((step.args, step.kwargs))
            return spell(step, self._leaf), _operator(step)
        node = change.after.nodes[value]
        if isinstance(node, Linear):
            return spell_sum(change.after, value, node, self.scope.var, self.namer.part), "y"
        if isinstance(node, Concat):
            return f"torch.cat([{', '.join(map(self.scope.var, node.pieces))}], {node.axis})", "cat"
        assert isinstance(node, (Spatial, Elementwise))
        step = repeated_step(change, value, node)
        return spell(step, self._leaf), _operator(step)


def _operator(step: Step) -> str:
    name = str(step.target.__name__).split(".")[0]
    return "item" if name == "getitem" else name.strip("_")


def _hint(path: str, module: nn.Module) -> str:
    last = path.rpartition(".")[2]
    return type(module).__name__.lower() if last.isdigit() or not last else last


def _open(text: str) -> str:
    """A tuple without its brackets."""
    pair = text.startswith("(") and text.endswith(")") and "," in text
    return text[1:-1] if pair and text.count("(") == 1 else text
