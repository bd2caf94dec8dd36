"""What a captured torch model is made of: the neutral program, and what is needed to write modules again."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from convfold.graph.conditions import Condition
from convfold.graph.program import Program

__all__ = ["Call", "Captured", "Constant", "Ref", "Size", "Step"]


@dataclass(frozen=True)
class Ref:
    """A value of the program, in the arguments of a step or a call."""

    value: int


@dataclass(frozen=True)
class Constant:
    """A tensor that does not depend on the inputs, by its key."""

    key: Hashable


@dataclass(frozen=True)
class Size:
    """A size that follows the inputs' sizes: a sympy expression over the symbols of `Captured.sizes`."""

    expression: Any


@dataclass(frozen=True)
class Step:
    """The operator that gave a value: ``target(*args, **kwargs)``, leaves Ref, Constant, Size or plain values.

    `writes` are the values that it overwrites in place; nothing reads them afterwards.
    """

    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    writes: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Call:
    """One call of a module, in the order of the calls; `parent` is the call that made it, None for the root.

    `args`, `kwargs` and `output` are trees as the forward saw them, tensors replaced by Ref.
    """

    number: int
    path: str
    parent: int | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


@dataclass
class Captured:
    """A model as a program.

    * `steps`: how each value was computed (inputs of the program have none);
    * `home`: the call during which each value was computed, the innermost one;
    * `calls`: every call of every module, root first;
    * `sizes`: the symbolic shape of each value, sympy expressions or integers;
    * `tensor`: ``tensor(key, dtype=None)``, the constant of a key. Without a dtype a plain parameter or buffer is
      given itself, not copied; with one, what is derived from others is computed in it;
    * `names`: for the key of a plain parameter or buffer, its name in the model;
    * `computed`: for the key of a constant that an operator gave, its step, whose leaves are constants;
    * `writes`: for a call whose forward writes to a tensor that the model holds, the name of that tensor;
    * `symbols`: for each symbol in `sizes`, the program's input (by position) and the axis that give its value;
    * `example`: the value of each symbol at the example inputs;
    * `hooked`: the paths of the modules that carry hooks of the user's, which did not run during the capture;
    * `limits`: what the capture holds for only, in sentences (sizes that it could not leave open, or
      that a branch of the forward looked at); `conditions`: the same, to be computed.
    """

    model: nn.Module
    program: Program
    steps: dict[int, Step]
    home: dict[int, int]
    calls: list[Call]
    sizes: dict[int, tuple[Any, ...]]
    tensor: Callable[..., Tensor]
    names: dict[Hashable, str] = field(default_factory=dict)
    computed: dict[Hashable, Step] = field(default_factory=dict)
    writes: dict[int, str] = field(default_factory=dict)
    symbols: dict[Any, tuple[int, int]] = field(default_factory=dict)
    example: dict[Any, int] = field(default_factory=dict)
    hooked: frozenset[str] = frozenset()
    limits: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
