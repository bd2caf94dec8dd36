"""The counter: sees each operator as it is executed, and knows which module and which inputs it serves."""

from __future__ import annotations

from collections import Counter as Multiset
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from convfold.cost import operators
from convfold.graph.inputs import ExampleInputs, describe

__all__ = ["Failure", "OperatorCounter", "Tally"]


@dataclass
class Tally:
    """What the innermost module executed itself, and the shapes of its first call."""

    type: str
    macs: int = 0
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


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _shapes(tree: object) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(tensor.shape) for tensor in _tensors(tree))


@dataclass
class _Origins:
    """Which example inputs each storage depends on; a storage not listed holds constants only.

    By storage, not by tensor, so that views and in-place writes are followed. References are weak:
    the addresses stay reserved, the memory does not.
    """

    known: dict[StorageWeakRef | None, frozenset[str]] = field(default_factory=dict)

    def of(self, tensors: Iterable[Tensor]) -> frozenset[str]:
        found: frozenset[str] = frozenset()
        for tensor in tensors:
            found |= self.known.get(_storage(tensor), frozenset())
        return found

    def mark(self, tensors: Iterable[Tensor], inputs: frozenset[str]) -> None:
        for tensor in tensors:
            key = _storage(tensor)
            self.known[key] = self.known.get(key, frozenset()) | inputs


def _storage(tensor: Tensor) -> StorageWeakRef | None:
    try:
        return StorageWeakRef(tensor.untyped_storage())
    except NotImplementedError:  # sparse and nested tensors have none: they share one entry
        return None


class OperatorCounter(TorchDispatchMode):
    """Counts the operators executed while it is active, by the module that runs them.

    `model` must be a copy made for counting: hooks are put on it. With `meta`, constants that the model
    keeps elsewhere are joined with meta tensors by shape alone.
    """

    def __init__(self, model: nn.Module, inputs: ExampleInputs, *, meta: bool) -> None:
        super().__init__()
        self.tallies: dict[str, Tally] = {}
        self.uncounted: Multiset[str] = Multiset()
        self.failure: Failure | None = None
        self._meta = meta
        self._types: dict[str, str] = {}
        self._shapes: dict[str, tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]] = {}
        self._running: list[str] = []
        self._origins = _Origins()
        for name, value in inputs.named().items():
            self._origins.mark(_tensors(value), frozenset({name}))
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
        # Under inference mode composites arrive whole; their parts are what is executed.
        if not operators.is_one_kernel(func):
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        given = _tensors((args, kwargs))
        inputs = frozenset() if operators.forgets_values(func) else self._origins.of(given)
        run_args, run_kwargs = self._on_meta(func, given, args, kwargs)
        try:
            self._check_types(func, run_args)
            out = func(*run_args, **run_kwargs)
        except Exception:
            self.failure = Failure(str(func), describe(list(args)), inputs)
            raise
        self._origins.mark(_tensors(out), inputs)
        self._count(func, run_args, run_kwargs, out)
        return out

    def _on_meta(self, func: Any, given: list[Tensor], args: Any, kwargs: Any) -> tuple[Any, Any]:
        mixed = self._meta and len({tensor.device.type for tensor in given}) > 1
        # A write would go to the stand-in and be lost: such a model is run for real.
        if not mixed or func._schema.is_mutable:
            return args, kwargs

        def stand_in(leaf: object) -> object:
            # Numbers keep their device, which also keeps their rule of type promotion.
            return leaf.to("meta") if isinstance(leaf, Tensor) and leaf.dim() else leaf

        return tree_map(stand_in, args), tree_map(stand_in, kwargs)

    def _check_types(self, func: Any, args: Any) -> None:
        factors = operators.PRODUCTS.get(operators.packet(func))
        # Meta kernels of products accept types that no real kernel does.
        if self._meta and factors is not None:
            left, right = (args[position].dtype for position in factors)
            if left != right:
                raise RuntimeError(f"the factors of {func} are of type {left} and {right}")

    def _count(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        if operators.is_layout(func):
            return
        path = self._running[-1] if self._running else ""
        tally = self.tallies.setdefault(path, Tally(self._types[path]))
        tally.operators += 1
        macs = operators.macs(func, args, kwargs, out)
        if macs is not None:
            tally.macs += macs
        elif operators.unknown(func):
            self.uncounted[str(operators.packet(func))] += 1
        kind = operators.packet(func)
        if kind in operators.CONVOLUTIONS:
            tally.convolutions += 1
        elif kind in operators.PRODUCTS:
            factors = [args[position] for position in operators.PRODUCTS[kind]]
            tally.convolutions += any(not self._origins.of([factor]) for factor in factors)
