"""What a plan changed in a captured model: values gone, values redefined, and which stands for which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from math import prod
from typing import Any

import torch

from convfold.graph.captured import Call, Captured, Constant, Ref, Size, Step
from convfold.graph.maps import Given
from convfold.graph.program import Linear, Node, Program
from convfold.plan.emission.outline import nearest, outlined
from convfold.plan.emission.padded import Padding, padding_of
from convfold.plan.emission.recipes import names_in
from convfold.plan.emission.strand import Strand, strand

__all__ = ["Change", "leaves_of", "refs"]


def leaves_of(*trees: Any) -> list[Any]:
    """The leaves of argument trees, in order: Ref, Constant and Size among them."""
    found: list[Any] = []
    stack = list(reversed(trees))
    while stack:
        item = stack.pop()
        if isinstance(item, (tuple, list)):
            stack += reversed(item)
        elif isinstance(item, dict):
            stack += reversed(list(item.values()))
        elif is_dataclass(item) and not isinstance(item, (type, Ref, Constant, Size)):
            stack += [getattr(item, part.name) for part in reversed(fields(item))]
        else:
            found.append(item)
    return found


def refs(*trees: Any) -> list[int]:
    """The values that argument trees hold, in order."""
    return [leaf.value for leaf in leaves_of(*trees) if isinstance(leaf, Ref)]


def _same(a: Node, b: Node) -> bool:
    if a is b:
        return True
    if not (isinstance(a, Linear) and isinstance(b, Linear)):
        return False
    terms = [(one.map is two.map, one.source == two.source) for one, two in zip(a.terms, b.terms, strict=False)]
    return len(a.terms) == len(b.terms) and all(map(all, terms)) and a.shift is b.shift


class Change:
    """A captured model and the program that is to take its place.

    `was` and `live` are the values needed before and after; `label` gives, for a value that is gone, a live one
    that may flow in its place through forwards that stay as they are; `home` is the call that computes each live
    value now (not always the original's), `time` its place in the order.
    """

    def __init__(self, captured: Captured, after: Program) -> None:
        self.captured, self.before = captured, captured.program
        self.count = len(self.before.values)
        self.steps = {value: self._settled(value, step) for value, step in captured.steps.items()}
        self.after = after = nearest(self.before, outlined(self.before, after))
        self.order = list(after.live())
        self.changed = frozenset(v for v in self.order if v in after.nodes and self._differs(v))
        self.was = frozenset(self.before.live())
        self.was |= self._read_by_steps(self.was, self.was)
        self.live = frozenset(self.order)
        revived = self._read_by_steps(self.live - self.changed, self.live)
        self.live |= revived
        self.order += sorted(revived - set(self.order))
        self._readers_before = self._readers(self.before, self.was)
        self.readers = self._readers(after, self.live)
        self.calls = {call.number: call for call in captured.calls}
        self.children: dict[int, list[int]] = {number: [] for number in self.calls}
        self.end = {number: number + 1 for number in self.calls}
        for call in captured.calls:
            if call.parent is not None:
                self.children[call.parent].append(call.number)
        for number in sorted(self.calls, reverse=True):
            for child in self.children[number]:
                self.end[number] = max(self.end[number], self.end[child])
        self.inside = self._by_call({v: captured.home[v] for v in self.was if v in captured.home})
        self._blocks = dict(self._own_equations())
        self._labels: dict[int, int] = {}
        self.home = {v: captured.home[v] for v in self.live if v in captured.home}
        for value in sorted(self.changed):
            self._label_strand(value)
        self._label_passed()
        self.time: dict[int, tuple[float, int]] = {}
        self._place_new()
        self.placed = self._by_call(self.home)

    def _settled(self, value: int, step: Step) -> Step:
        """A step that reads a value for its shape only, given that shape: the value itself may be gone."""
        name = str(step.target.__name__).split(".")[0]
        if name not in ("view_as", "reshape_as", "expand_as") or not isinstance(step.args[0], Ref):
            return step
        shape = [size if isinstance(size, int) else Size(size) for size in self.captured.sizes[value]]
        target = torch.ops.aten.expand.default if name == "expand_as" else torch.ops.aten.reshape.default
        return Step(target, (step.args[0], shape), {})

    def _differs(self, value: int) -> bool:
        return value >= self.count or not _same(self.before.nodes[value], self.after.nodes[value])

    def _step_reads(self, value: int) -> list[int]:
        step = self.steps.get(value)
        return [] if step is None else refs(step.args, step.kwargs)

    def _read_by_steps(self, values: frozenset[int], known: frozenset[int]) -> frozenset[int]:
        """What the operators of values read beyond what is known: a chain of views may be one map of its beginning."""
        found, stack = set(known), list(values)
        while stack:
            for source in self._step_reads(stack.pop()):
                if source not in found:
                    found.add(source)
                    stack.append(source)
        return frozenset(found - known)

    def _readers(self, program: Program, values: frozenset[int]) -> dict[int, set[int]]:
        readers: dict[int, set[int]] = {value: set() for value in values}
        for value in values:
            own = program is self.before or value not in self.changed
            sources = program.nodes[value].inputs if value in program.nodes else ()
            for source in (*sources, *(self._step_reads(value) if own else ())):
                readers[source].add(value)
        return readers

    def _by_call(self, home: dict[int, int]) -> dict[int, set[int]]:
        inside: dict[int, set[int]] = {number: set() for number in self.calls}
        for value, number in home.items():
            current: int | None = number
            while current is not None:
                inside[current].add(value)
                current = self.calls[current].parent
        return inside

    def label(self, value: int) -> int | None:
        """The live value that flows where `value` did; None where nothing does."""
        return value if value in self.live or value in self.before.inputs else self._labels.get(value)

    def same_size(self, value: int) -> bool:
        """Whether what flows where `value` did has its size, at all sizes that the model is captured for."""
        label, sizes = self.label(value), self.captured.sizes
        return label == value or (label is not None and sizes.get(value, value) == sizes.get(label, label))

    def within(self, value: int, call: int) -> bool:
        """Whether a live value is computed during `call`."""
        return value in self.home and call <= self.home[value] < self.end[call]

    def escapes(self, value: int, call: int) -> bool:
        """Whether a value computed during `call` is read after it."""
        return value in self.after.outputs or any(not self.within(r, call) for r in self.readers[value])

    def padding(self, value: int) -> Padding | None:
        """The padding of another mode than zeros that the convolution `value` alone reads."""
        return padding_of(self.after, self.steps, self.readers, value)

    def _strand(self, value: int, *, padded: bool) -> tuple[Strand | None, frozenset[int]]:
        """The values that went into `value`, and those of them that stay: with `padded`, the padding before it."""
        node = self.after.nodes[value]
        if not isinstance(node, Linear) or len(node.terms) != 1 or value >= self.count:
            return None, frozenset()
        source, stays = node.terms[0].source, frozenset({value})
        if padded:
            found = self.padding(value)
            if found is None:
                return None, frozenset()
            source, stays = found.source, stays | {found.value}
        return strand(self.before.nodes, self._readers_before, self.live - stays, value, source), stays

    def _label_strand(self, value: int) -> None:
        """What a strand was computed of lands where its largest kernel was, in the call of a module.

        What stood before that passes the source, what stood behind it passes the value.
        """
        for padded in (False, True):
            found, stays = self._strand(value, padded=padded)
            home = None if found is None else self._home_of(found)
            if found is None or home is None:
                continue
            part = found.part(self.inside[home])
            assert part is not None
            start, end = part
            if not stays <= self.inside[home] | {value}:
                continue
            self._labels.update(dict.fromkeys(found.values[:start], found.source))
            self._labels.update(dict.fromkeys(found.values[end - 1 : -1], value))
            self.home.update(dict.fromkeys(stays, home))
            return

    def _home_of(self, found: Strand) -> int | None:
        """The call that computed the largest kernel: of a module that gives its own equation, else the innermost."""
        values = set(found.values)
        best, most = [], 0
        for value in found.values:
            around = list(self._around(value))
            # Outermost first.
            blocks = [c for c in reversed(around) if c in self._blocks and self.inside[c] <= values]
            size = max((self._blocks[c] for c in blocks), default=_kernel_size(self.before.nodes[value]))
            if size > most and around:
                best, most = [*blocks, around[0]], size
        for start in best:
            current: int | None = start
            while current is not None and self.inside[current] <= values:
                part = found.part(self.inside[current])
                if part is not None and found.values[part[1] - 1] in refs(self.calls[current].output):
                    return current
                current = None if part is not None else self.calls[current].parent
        return None

    def _around(self, value: int) -> Iterator[int]:
        """The calls during which a value was computed, innermost first."""
        current = self.captured.home.get(value)
        while current is not None:
            yield current
            current = self.calls[current].parent

    def _own_equations(self) -> Iterator[tuple[int, int]]:
        """The calls of modules that give their own equation, each with the size of its kernel."""
        for value, node in self.before.alternatives.items():
            recipe = node.terms[0].map.recipe
            path = recipe.key[1] if isinstance(recipe, Given) and isinstance(recipe.key, tuple) else None
            yield from ((c, _kernel_size(node)) for c in self._around(value) if self.calls[c].path == path)

    def _label_passed(self) -> None:
        """A value taken into everything that read it passes its own source."""
        for value in sorted(self.was - self.live):
            inputs = set(self.before.nodes[value].inputs) if value in self.before.nodes else set()
            if value in self._labels or len(inputs) != 1:
                continue
            source = self.label(*inputs)
            readers = self._readers_before[value] & self.live
            if source is not None and all(r in self.changed and source in self.after.nodes[r].inputs for r in readers):
                self._labels[value] = source

    def _place_new(self) -> None:
        """New values belong to the innermost call that holds all their readers, as late as can be."""
        for index in range(len(self.order) - 1, -1, -1):
            value = self.order[index]
            if value < self.count:
                self.time[value] = (value, 0)
                continue
            readers = self.readers[value]
            homes = [self.home[r] for r in readers] if value not in self.after.outputs else [0]
            self.home[value] = self._common(homes)
            self.time[value] = (min((self.time[r][0] for r in readers), default=self.count) - 0.5, index)

    def _common(self, homes: list[int]) -> int:
        current = homes[0]
        while not all(current <= home < self.end[current] for home in homes):
            parent = self.calls[current].parent
            assert parent is not None
            current = parent
        return current

    def below(self, call: int) -> Iterator[Call]:
        """The calls made during `call`, itself first."""
        return (self.calls[number] for number in range(call, self.end[call]) if number in self.calls)

    def constants(self, values: frozenset[int], *, named: bool = False) -> set[str]:
        """The names of the parameters and buffers that the original steps of `values` read.

        What an operator computed of others counts as these; with `named`, only what is read by its own name counts.
        """
        held = (self.steps[v] for v in values if v in self.steps)
        keys = {leaf.key for step in held for leaf in leaves_of(step.args, step.kwargs) if isinstance(leaf, Constant)}
        if named:
            return {self.captured.names[key] for key in keys if key in self.captured.names}
        return {name for key in keys for name in names_in(self.captured, key)}


def _kernel_size(node: Node) -> int:
    if not isinstance(node, Linear):
        return 0
    maps = [term.map for term in node.terms if term.map.dense]
    return max((m.rows * m.cols // m.groups * prod(axis.kernel for axis in m.window) for m in maps), default=0)
