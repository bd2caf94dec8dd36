"""The counter: sees each operator as it is executed, and knows which module and which inputs it serves."""

from __future__ import annotations

from collections import Counter as Multiset
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from convfold.cost.counting import operators
from convfold.cost.counting.leaves import tensors
from convfold.cost.counting.quick import QUICK
from convfold.graph.inputs import ExampleInputs, describe

__all__ = ["Failure", "Observer", "OperatorCounter", "Tally"]


class Observer(Protocol):
    """Is shown every operator after it ran, views and copies too, with the innermost module that ran it.

    Operators of higher order (``cond``, ``flex_attention``) are not shown, they have no schema; nor those on
    strided nested tensors (the fast path of a padded TransformerEncoder), which have no shape.
    """

    def see(self, func: Any, args: Any, kwargs: Any, out: Any, path: str) -> None:
        """`func` gave `out` from `args` and `kwargs` inside the module at `path` (``""``: the model)."""


_NONE: frozenset[str] = frozenset()
_OWN_TYPES = (Tensor, nn.Parameter)


@dataclass
class Tally:
    """What the innermost module executed itself, and the shapes of its first call."""

    type: str
    macs: int = 0
    flops: int = 0
    convolutions: int = 0
    operators: int = 0
    inputs: tuple[tuple[int, ...], ...] = ()
    outputs: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Failure:
    """The operator that refused: on what, and which example inputs that depended on."""

    operator: str
    got: str
    inputs: frozenset[str]


def _shapes(tree: object) -> tuple[tuple[int, ...], ...]:
    # A nested tensor that is not jagged has no shape.
    return tuple(() if _shapeless(tensor) else tuple(tensor.shape) for tensor in tensors(tree))


def _shapeless(tensor: Tensor) -> bool:
    return tensor.is_nested and tensor.layout == torch.strided


@dataclass
class _Origins:
    """Which example inputs each storage depends on; a storage not listed holds constants only.

    By storage, not by tensor, so that views and in-place writes are followed. References are weak:
    the addresses stay reserved, the memory does not.
    """

    known: dict[StorageWeakRef | None, frozenset[str]] = field(default_factory=dict)

    def of(self, values: Iterable[Tensor]) -> frozenset[str]:
        found = _NONE
        for tensor in values:
            found |= self.known.get(_storage(tensor), _NONE)
        return found

    def mark(self, values: Iterable[Tensor], inputs: frozenset[str]) -> None:
        for tensor in values:
            key = _storage(tensor)
            self.known[key] = self.known.get(key, _NONE) | inputs


def _storage(tensor: Tensor) -> StorageWeakRef | None:
    try:
        return StorageWeakRef(tensor.untyped_storage())
    except NotImplementedError:  # sparse and nested tensors have none: they share one entry
        return None


class OperatorCounter(TorchDispatchMode):
    """Counts the operators executed while it is active, by the module that runs them.

    `model` must be a copy made for counting: hooks are put on it. With `meta`, constants that the model
    keeps elsewhere are joined with meta tensors by shape alone. `observers` are shown every operator in
    turn; they must not hold on to tensors.
    """

    supports_higher_order_operators = True

    def __init__(
        self, model: nn.Module, inputs: ExampleInputs, *, meta: bool, observers: Sequence[Observer] = ()
    ) -> None:
        super().__init__()
        self._observers = tuple(observers)
        self.tallies: dict[str, Tally] = {}
        self.uncounted: Multiset[str] = Multiset()
        self.failure: Failure | None = None
        self._meta = meta
        self._types: dict[str, str] = {}
        self._shapes: dict[str, tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]] = {}
        self._running: list[str] = []
        self._origins = _Origins()
        for name, value in inputs.named().items():
            self._origins.mark(tensors(value), frozenset({name}))
        for path, module in model.named_modules():
            self._follow(path, module)

    def _follow(self, path: str, module: nn.Module) -> None:
        self._types[path] = type(module).__name__
        if isinstance(module, torch.jit.ScriptModule):
            return  # runs without Python: what it executes belongs to the module that calls it

        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            self._running.append(path)
            self._shapes.setdefault(path, (_shapes((args, kwargs)), ()))

        def leave(module: nn.Module, args: Any, out: Any) -> None:
            self._running.pop()
            inputs, outputs = self._shapes[path]
            if not outputs:
                self._shapes[path] = (inputs, _shapes(out))

        module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True)
        # Also after an exception: a model may catch one of its own and go on.
        module.register_forward_hook(leave, always_call=True)

    def finish(self) -> dict[str, Tally]:
        """The tallies with the shapes of the modules they belong to, in order of execution."""
        for path, tally in self.tallies.items():
            tally.inputs, tally.outputs = self._shapes.get(path, ((), ()))
        return self.tallies

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(own not in _OWN_TYPES and _dispatches(own) for own in types):
            return NotImplemented  # the tensors' own type takes it apart first: its parts come back here
        kind = operators.kind(func)
        given = tensors((args, kwargs))
        # Under inference mode composites arrive whole; their parts are what is executed. Those on nested
        # tensors have other parts, which cannot be asked for.
        if not kind.whole and not any(map(_shapeless, given)):
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        inputs = _NONE if kind.forgets_values else self._origins.of(given)
        if self._meta and not kind.mutable:
            # A write would go to the stand-in and be lost: such a model is run for real.
            args, kwargs = _joined(given, args, kwargs)
        try:
            self._check_types(func, kind, args)
            out = self._run(func, kind, args, kwargs)
        except Exception:
            self.failure = Failure(str(func), describe(list(args)), inputs)
            raise
        made = tensors(out)
        self._origins.mark(made, inputs)
        path = self._running[-1] if self._running else ""
        if not kind.layout:
            self._count(kind, args, kwargs, out, path)
        if self._observers and not kind.higher_order and not any(map(_shapeless, (*given, *made))):
            for observer in self._observers:
                observer.see(func, args, kwargs, out, path)
        return out

    def _run(self, func: Any, kind: operators.Kind, args: Any, kwargs: Any) -> Any:
        quick = QUICK.get(kind.name) if self._meta else None
        out = None if quick is None else quick(*args, **kwargs)
        return func(*args, **kwargs) if out is None else out

    def _check_types(self, func: Any, kind: operators.Kind, args: Any) -> None:
        # Meta kernels of products accept types that no real kernel does.
        if self._meta and kind.factors is not None:
            left, right = (args[position].dtype for position in kind.factors)
            if left != right:
                raise RuntimeError(f"the factors of {func} are of type {left} and {right}")

    def _count(self, kind: operators.Kind, args: Any, kwargs: Any, out: Any, path: str) -> None:
        tally = self.tallies.setdefault(path, Tally(self._types[path]))
        tally.operators += 1
        work = kind.work(args, kwargs, out)
        if work is None:
            self.uncounted[kind.name.replace("::", ".")] += 1
        else:
            tally.macs += work[0]
            tally.flops += work[1]
        if kind.convolution:
            tally.convolutions += 1
        elif kind.factors is not None:
            tally.convolutions += any(not self._origins.of([args[position]]) for position in kind.factors)


def _joined(given: list[Tensor], args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments with every one on the meta device when some are and some are not."""
    if len({tensor.device.type for tensor in given}) < 2:
        return args, kwargs

    def stand_in(leaf: object) -> object:
        # Numbers keep their device, which also keeps their rule of type promotion.
        return leaf.to("meta") if isinstance(leaf, Tensor) and leaf.dim() else leaf

    return tree_map(stand_in, args), tree_map(stand_in, kwargs)


def _dispatches(own: type) -> bool:
    """Whether a type of tensor runs operators itself (nested tensors do, a parameter does not)."""
    return own.__torch_dispatch__ is not torch._C._disabled_torch_dispatch_impl  # type: ignore[attr-defined]
