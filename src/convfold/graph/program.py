"""The neutral program: values in single-assignment form, most of them sums of linear maps of other values.

Frontends (torch.export, ONNX) write it, the plan rewrites it, emitters read it. It knows no framework: what
an opaque node is, is the frontend's business; which tensor a key stands for, too. A value keeps its number
while its definition changes, so every value that is left can be compared with the original's.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from convfold.graph.maps import Map

__all__ = [
    "Concat",
    "Elementwise",
    "Linear",
    "Node",
    "Opaque",
    "Place",
    "Program",
    "Shift",
    "ShiftGiven",
    "ShiftJoin",
    "ShiftMap",
    "ShiftPart",
    "ShiftPlus",
    "ShiftThrough",
    "Spatial",
    "Term",
    "Value",
    "inner_shifts",
    "is_identity",
    "parameters_of",
]


@dataclass(frozen=True)
class Place:
    """Where a value comes from: operator, innermost module (path and class), and line of source."""

    operator: str = ""
    module: str = ""
    kind: str = ""
    line: str = ""


@dataclass(frozen=True)
class Value:
    """A tensor of the program at the example inputs' size."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    place: Place = Place()


class _Shift:
    """A bias; `mapped` says whether it differs from position to position."""

    mapped: bool

    def __post_init__(self) -> None:
        # Known once and kept: a bias may be thousands of steps deep.
        inner = inner_shifts(self)  # type: ignore[arg-type]
        mapped = isinstance(self, ShiftMap) or any(part.mapped for part in inner)
        object.__setattr__(self, "mapped", mapped)


@dataclass(frozen=True, eq=False)
class ShiftGiven(_Shift):
    """A bias by the frontend's key: (C,), or one element that is added everywhere."""

    key: Hashable


@dataclass(frozen=True, eq=False)
class ShiftThrough(_Shift):
    """The response of a map to a bias before it, constant over the positions."""

    shift: Shift
    map: Map


@dataclass(frozen=True, eq=False)
class ShiftPlus(_Shift):
    """A sum of biases."""

    shifts: tuple[Shift, ...]


@dataclass(frozen=True, eq=False)
class ShiftMap(_Shift):
    """The response of a map to a bias before it, where it is not constant: a map over positions.

    `size` are the positions of the value before the map.
    """

    shift: Shift
    map: Map
    size: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ShiftPart(_Shift):
    """Channels `start` to `stop` of a bias."""

    shift: Shift
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class ShiftJoin(_Shift):
    """Biases one after another, each with its width; None is zero."""

    parts: tuple[tuple[Shift | None, int], ...]


Shift = ShiftGiven | ShiftThrough | ShiftPlus | ShiftMap | ShiftPart | ShiftJoin


def inner_shifts(shift: Shift) -> tuple[Shift, ...]:
    """The biases that one is directly made of."""
    if isinstance(shift, ShiftPlus):
        return shift.shifts
    if isinstance(shift, ShiftJoin):
        return tuple(part for part, _ in shift.parts if part is not None)
    return () if isinstance(shift, ShiftGiven) else (shift.shift,)


@dataclass(frozen=True, eq=False)
class Term:
    """``map(source)``, one summand."""

    map: Map
    source: int


@dataclass(frozen=True, eq=False)
class Linear:
    """``sum_j terms[j] + shift``; the shift acts on the channel `axis`."""

    terms: tuple[Term, ...]
    shift: Shift | None = None
    axis: int | None = None

    @property
    def inputs(self) -> tuple[int, ...]:
        return tuple(term.source for term in self.terms)

    @property
    def mapped(self) -> bool:
        """Whether the shift differs from position to position."""
        return self.shift is not None and self.shift.mapped


@dataclass(frozen=True, eq=False)
class Concat:
    """The pieces one after another along `axis`."""

    pieces: tuple[int, ...]
    axis: int

    @property
    def inputs(self) -> tuple[int, ...]:
        return self.pieces


@dataclass(frozen=True, eq=False)
class Spatial:
    """A linear map that treats every channel alike: a pooling, a mean, a resizing, a pad, a change of layout.

    `axes` maps each channel axis it may serve before to the one after. `ones` says whether it maps ones to
    ones, so that a bias passes. `free` ones execute nothing (views). `spread` (before, after): one channel before
    is a run of `after` channels after (flatten: (1, H*W)), or a run of `before` is one after (pixel shuffle).
    `like` is the value whose operator it repeats, on another source.
    """

    source: int
    axes: tuple[tuple[int, int], ...]
    ones: bool
    free: bool
    like: int
    spread: tuple[int, int] = (1, 1)

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.source,)


@dataclass(frozen=True, eq=False)
class Elementwise:
    """A function of each element alone; two of one `key` are the same function."""

    source: int
    key: Hashable
    like: int

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.source,)


@dataclass(frozen=True, eq=False)
class Opaque:
    """Anything else: read and kept. Its cost was counted by the frontend."""

    inputs: tuple[int, ...]
    macs: int = 0
    convolutions: int = 0
    operators: int = 1


Node = Linear | Concat | Spatial | Elementwise | Opaque


def is_identity(node: Node | None) -> bool:
    """Whether a value is another one, unchanged."""
    return (
        isinstance(node, Linear)
        and len(node.terms) == 1
        and node.terms[0].map.kind == "identity"
        and node.shift is None
    )


def parameters_of(node: Node | None) -> int:
    """The elements of the tensors of a definition: those of its maps, and one for each channel of a bias."""
    if not isinstance(node, Linear):
        return 0
    maps = [term.map for term in node.terms]
    bias = 0 if node.shift is None else max((m.rows for m in maps), default=0)
    return sum(m.parameters for m in maps) + bias


@dataclass
class Program:
    """Values by number, each with its definition; inputs have none. Numbers rise in order of execution.

    `operators` overrides what a value's original definition executes where the frontend knows better than the
    cost of its kind. `alternatives` are other definitions of a value that the frontend vouches for (a module
    that gives its own equation). `payload` is the frontend's own: what it needs to emit the program again.
    """

    values: list[Value] = field(default_factory=list)
    nodes: dict[int, Node] = field(default_factory=dict)
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    operators: dict[int, int] = field(default_factory=dict)
    alternatives: dict[int, Linear] = field(default_factory=dict)
    baked: dict[int, int] = field(default_factory=dict)
    payload: Any = None

    def add(self, value: Value, node: Node | None = None) -> int:
        """A new value; without a definition it is an input of the program."""
        self.values.append(value)
        number = len(self.values) - 1
        if node is None:
            self.inputs += (number,)
        else:
            self.nodes[number] = node
        return number

    def users(self) -> dict[int, set[int]]:
        """The values that read each value."""
        users: dict[int, set[int]] = {number: set() for number in range(len(self.values))}
        for number, node in self.nodes.items():
            for source in node.inputs:
                users[source].add(number)
        return users

    def live(self, also: Iterable[int] = ()) -> Iterator[int]:
        """The values that the outputs, and those of `also`, need, in order of need: sources first."""
        seen: set[int] = set()
        stack = [(number, False) for number in reversed((*self.outputs, *also))]
        while stack:
            number, done = stack.pop()
            if done:
                yield number
            elif number not in seen:
                seen.add(number)
                stack.append((number, True))
                node = self.nodes.get(number)
                stack += [(source, False) for source in reversed(node.inputs)] if node is not None else []
