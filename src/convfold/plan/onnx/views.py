"""Changes of layout that undo each other: what acts on channels alone between them moves past them, and they go.

Exporters of networks with channels last put a transposition before and behind each convolution; additions, functions
and concatenations lie between. ``T(f(T'(x))) = f'(x)`` where T undoes T', f' being f on the axis that T' moved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from convfold.errors import NotFoldable
from convfold.graph.layout import Layout, identity, reshaped
from convfold.graph.maps import IDENTITY, Map, is_pointwise, seen
from convfold.graph.onnx.captured import CapturedFile
from convfold.graph.onnx.nodes import VIEWS, transposition
from convfold.graph.program import Concat, Elementwise, Linear, Node, Program, Spatial, Term, Value, is_identity
from convfold.graph.rules.views import shuffled
from convfold.graph.sizes import Pair
from convfold.plan.onnx.pads import pad_behind
from convfold.plan.onnx.shapes import Sizes
from convfold.plan.search.price import FREE
from convfold.plan.search.search import Accepted

__all__ = ["LAW", "settled"]

LAW = "changes of layout that undo each other are none: what acts on channels moves past them"


def settled(
    captured: CapturedFile, program: Program, kept: frozenset[int]
) -> tuple[Program, tuple[Accepted, ...]] | None:
    """The program without changes of layout that undo each other; None where there are none.

    Values keep their numbers; those between the two are defined as views of new ones that have the first layout.
    """
    return _Settling(captured, program, kept).run()


@dataclass(frozen=True)
class _View:
    """A value as the views `path` of `base`, first to last, and the layout that they amount to."""

    base: int
    path: tuple[int, ...]
    layout: Layout


class _Settling:
    def __init__(self, captured: CapturedFile, program: Program, kept: frozenset[int]) -> None:
        self.captured, self.program, self.kept = captured, program, kept
        self.values, self.nodes = list(program.values), dict(program.nodes)
        self.sizes = Sizes(captured, self.values, self.nodes)
        self.views: dict[int, _View] = {}
        # New values, with the old ones that they are the first layout of.
        self.inner: dict[int, int] = {}
        self.ends: dict[int, Linear] = {}

    def run(self) -> tuple[Program, tuple[Accepted, ...]] | None:
        for number in self.program.live(sorted(self.captured.alive)):
            node = self.program.nodes.get(number)
            if node is None or number in self.kept or self.sizes.pairs(number) is None:
                continue
            view = self._view(number, node)
            if view is not None and len(view.layout) == len(self.values[number].shape):
                self.views[number] = view
        if not self.ends:
            return None
        steps = [Accepted(number, LAW, self._changed(number), (), FREE) for number in self.ends]
        self._define_ends()
        origin = self.captured.program
        operators = {n: c for n, c in self.program.operators.items() if self.nodes.get(n) is origin.nodes.get(n)}
        return replace(self.program, values=self.values, nodes=self.nodes, operators=operators), tuple(steps)

    # --- what each value is a view of

    def _view(self, number: int, node: Node) -> _View | None:
        if isinstance(node, Spatial):
            return self._spatial(number, node)
        known = [self.views.get(source) for source in node.inputs]
        views = [view for view in known if view is not None]
        if len(views) < len(known) or not views:
            return None
        if isinstance(node, Linear) and is_identity(node):
            return views[0]
        if isinstance(node, Elementwise):
            return self._moved(number, replace(node, source=views[0].base), views[0], None)
        if isinstance(node, Linear):
            return self._sum(number, node, views)
        return self._concat(number, node, views) if isinstance(node, Concat) else None

    def _spatial(self, number: int, node: Spatial) -> _View | None:
        if self.captured.nodes[node.like].op_type not in VIEWS:
            return None
        padded = self._padded(number, node)
        if padded is not None:
            self.ends[number] = padded
            return None
        start = self.sizes.pairs(node.source)
        if start is None:
            return None
        below = self.views.get(node.source) or _View(node.source, (), identity(start))
        layout = self._step(number, below.layout, self.sizes.pairs(number))
        base = self.sizes.pairs(below.base)
        if layout is None or base is None:
            return None
        whole = shuffled(layout, base) if below.path else None
        if whole is None:
            return _View(below.base, (*below.path, number), layout)
        self.ends[number] = Linear((Term(whole, below.base),))
        return self.views.get(below.base) if whole.kind == "identity" else None

    def _padded(self, number: int, node: Spatial) -> Linear | None:
        """``T(P(x)) = P'(T(x))`` for a pad P of axes that T puts behind the channels, where a convolution takes it."""
        pad = self.program.nodes.get(node.source)
        if not isinstance(pad, Spatial) or self.captured.nodes[pad.like].op_type != "Pad" or node.source in self.kept:
            return None
        order = transposition(self.captured.nodes[node.like], len(self.values[number].shape))
        before = self.sizes.pairs(pad.source)
        if order is None or before is None:
            return None
        m = pad_behind(self.captured, self.captured.nodes[pad.like], order, self.values[number].shape[1])
        if m is None:
            return None
        below = self.views.get(pad.source)
        base = None if below is None else self.sizes.pairs(below.base)
        if below is not None and base is not None:
            whole = shuffled(tuple(below.layout[axis] for axis in order), base)
            if whole is not None and whole.kind == "identity":
                return Linear((Term(m, below.base),))
        shape = tuple(before[axis][0] for axis in order)
        turned = self._add(replace(self.values[number], shape=shape), replace(node, source=pad.source))
        return Linear((Term(m, turned),))

    def _step(self, number: int, layout: Layout, after: tuple[Pair, ...] | None) -> Layout | None:
        node = self.program.nodes[number]
        assert isinstance(node, Spatial)
        order = transposition(self.captured.nodes[node.like], len(layout))
        if order is None:
            return None if after is None else reshaped(layout, after)
        return tuple(layout[axis] for axis in order)

    def _axis(self, view: _View, axis: int) -> int | None:
        """The axis of the base that an axis is, whole and alone; not the batch."""
        parts, base = view.layout[axis], self.sizes.pairs(view.base)
        if base is None or len(parts) != 1 or parts[0].axis == 0:
            return None
        return parts[0].axis if (parts[0],) == identity(base)[parts[0].axis] else None

    def _sum(self, number: int, node: Linear, views: list[_View]) -> _View | None:
        first = views[0]
        alike = all(self.sizes.pairs(v.base) == self.sizes.pairs(first.base) for v in views)
        if node.mapped or not alike or any(view.layout != first.layout for view in views):
            return None
        terms: list[Term] = []
        for term, view in zip(node.terms, views, strict=True):
            m = self._seen(term.map, view)
            if m is None:
                return None
            terms.append(Term(m, view.base))
        axis = None if node.axis is None else self._axis(first, node.axis)
        if node.axis is not None and axis is None:
            return None
        wide = next((term.map for term in terms if term.map.axis is not None), None)
        width = None if wide is None or wide.axis is None else (wide.axis, wide.rows)
        return self._moved(number, Linear(tuple(terms), node.shift, axis), first, width)

    def _seen(self, m: Map, view: _View) -> Map | None:
        if m.axis is None:
            return m
        axis = self._axis(view, m.axis)
        if axis is None or not is_pointwise(m):
            return None
        try:
            return seen(m, axis, 1)
        except NotFoldable:
            return None

    def _concat(self, number: int, node: Concat, views: list[_View]) -> _View | None:
        axes = {self._axis(view, node.axis) for view in views}
        axis = next(iter(axes))
        orders = {tuple(tuple(part.axis for part in parts) for parts in view.layout) for view in views}
        turned = all(self._is_turn(view) for view in views)
        if len(axes) > 1 or axis is None or len(orders) > 1 or not turned:
            return None
        width = sum(self.values[view.base].shape[axis] for view in views)
        return self._moved(number, Concat(tuple(view.base for view in views), axis), views[0], (axis, width))

    def _is_turn(self, view: _View) -> bool:
        nodes = [self.program.nodes[number] for number in view.path]
        return all(isinstance(n, Spatial) and self.captured.nodes[n.like].op_type == "Transpose" for n in nodes)

    def _moved(self, number: int, node: Node, view: _View, width: tuple[int, int] | None) -> _View | None:
        """The value `number` as views of a new one, which `node` defines; `width` is that of an axis of it."""
        shape = list(self.values[view.base].shape)
        if width is not None:
            shape[width[0]] = width[1]
        steps = self._steps(view, width)
        base = len(self.values)
        self._add(replace(self.values[number], shape=tuple(shape)), node)
        start = self.sizes.pairs(base)
        if start is None or steps is None:
            return None
        layout: Layout | None = identity(start)
        for place, after in zip(view.path, steps, strict=True):
            layout = None if layout is None else self._step(place, layout, after)
        self.inner[base] = number
        return None if layout is None else _View(base, view.path, layout)

    def _add(self, value: Value, node: Node) -> int:
        self.values.append(value)
        self.nodes[len(self.values) - 1] = node
        return len(self.values) - 1

    def _steps(self, view: _View, width: tuple[int, int] | None) -> list[tuple[Pair, ...]] | None:
        """The sizes after each view of the path, where an axis of the base has another width."""
        found = []
        for number in view.path:
            pairs, node = self.sizes.pairs(number), self.program.nodes[number]
            assert isinstance(node, Spatial)
            if pairs is None:
                return None
            after = list(pairs)
            if width is not None:
                axes = dict(node.axes)
                if width[0] not in axes:
                    # It stays as wide as it is, or no view of this kind serves it.
                    return None
                width = axes[width[0]], width[1] * node.spread[1] // node.spread[0]
                after[width[0]] = width[1], width[1]
            found.append(tuple(after))
        return found

    # --- what is written

    def _changed(self, end: int) -> tuple[int, ...]:
        """Define what stands between as views of the new values that an end reads; all that changes."""
        changed, stack = [end], list(self.ends[end].inputs)
        found: set[int] = set()
        while stack:
            base = stack.pop()
            if base in found or base not in self.inner:
                continue
            found.add(base)
            stack += self.nodes[base].inputs
            number = self.inner[base]
            changed += [base, number]
            if number in self.ends or self.nodes[number] is not self.program.nodes[number]:
                continue
            source = base
            for place in self.views[number].path:
                node = self.program.nodes[place]
                assert isinstance(node, Spatial)
                last = place == self.views[number].path[-1]
                again = replace(node, source=source)
                if last:
                    self.nodes[number] = again
                else:
                    source = self._add(self._between(number, place), again)
                    changed.append(source)
        return tuple(dict.fromkeys(changed))

    def _define_ends(self) -> None:
        """Define each end as the value that it is; of a new one it takes the definition, for it may be an output."""
        for number, node in self.ends.items():
            base = node.terms[0].source
            taken = is_identity(node) and base in self.inner and not is_identity(self.nodes[base])
            self.nodes[number] = self.nodes[base] if taken else node
            if taken:
                self.nodes[base] = Linear((Term(IDENTITY, number),))

    def _between(self, number: int, place: int) -> Value:
        """The value at a place of the path of `number`: as wide as that is."""
        view = self.views[number]
        base = self.values[view.base]
        value = self.values[place]
        shape = list(value.shape)
        origin = self.values[self.views[place].base]
        axis = next((a for a, (x, y) in enumerate(zip(base.shape, origin.shape, strict=True)) if x != y), None)
        if axis is not None:
            steps = self._steps(replace(view, path=view.path[: view.path.index(place) + 1]), (axis, base.shape[axis]))
            assert steps is not None
            shape = [one for one, _ in steps[-1]]
        return replace(base, shape=tuple(shape))
