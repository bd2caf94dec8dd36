"""Tensors that do not depend on the inputs: parameters, and what a forward computes of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from convfold.graph.capture.steps import run
from convfold.graph.captured import Constant, Step
from convfold.graph.derived import derive, derived_from
from convfold.graph.operation import Meta

__all__ = ["Constants"]


def _constants_of(step: Step) -> list[Hashable]:
    """The keys of the constants that a step reads."""
    return [leaf.key for leaf in tree_leaves((step.args, step.kwargs)) if isinstance(leaf, Constant)]


def _cast(tensor: Any, dtype: torch.dtype | None) -> Any:
    if dtype is None or not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        return tensor
    return tensor.to(dtype)


@dataclass
class Constants:
    """Tensors by key, evaluated when asked for.

    Keys: a name in the model; ("computed", n) a step over constants; and what the rules derive (`derived_from`).
    """

    held: dict[Hashable, Tensor] = field(default_factory=dict)
    metas: dict[Hashable, Meta | None] = field(default_factory=dict)
    steps: dict[Hashable, Step] = field(default_factory=dict)
    more: dict[str, Callable[[Hashable, torch.dtype | None], Tensor]] = field(default_factory=dict)
    _memo: dict[tuple[Hashable, torch.dtype | None], Any] = field(default_factory=dict)
    _claimed: set[Hashable] = field(default_factory=set)

    def hold(self, key: Hashable, tensor: Tensor) -> Constant:
        """A tensor of the model's own."""
        self.held[key] = tensor
        self.metas[key] = Meta(tuple(tensor.shape), tensor.dtype)
        return Constant(key)

    def compute(self, step: Step, meta: Meta | None) -> Constant:
        """The result of an operator over constants."""
        key = ("computed", len(self.steps))
        self.steps[key] = step
        self.metas[key] = meta
        return Constant(key)

    def claim(self, step: Step) -> list[Step]:
        """The steps over constants that `step` needs and that no other step has claimed before."""
        found: list[Step] = []
        stack = _constants_of(step)
        while stack:
            key = stack.pop()
            if key in self.steps and key not in self._claimed:
                self._claimed.add(key)
                found.append(self.steps[key])
                stack += _constants_of(self.steps[key])
        return found

    def meta(self, key: Hashable) -> Meta:
        meta = self.metas[key]
        assert meta is not None, f"constant {key} is no tensor"
        return meta

    def __call__(self, key: Hashable, dtype: torch.dtype | None = None) -> Any:
        """The constant `key`; in `dtype` where it is floating point, all that it is derived from cast first."""
        if key in self.held:
            return _cast(self.held[key], dtype)
        if (key, dtype) not in self._memo:
            with torch.no_grad():
                self._evaluate(key, dtype)
        return self._memo[key, dtype]

    def _evaluate(self, key: Hashable, dtype: torch.dtype | None) -> None:
        stack = [key]
        while stack:
            at = stack[-1]
            needed = [k for k in self._sources(at) if k not in self.held and (k, dtype) not in self._memo]
            if needed:
                stack += needed
                continue
            stack.pop()
            if (at, dtype) not in self._memo:
                self._memo[at, dtype] = self._value(at, dtype)

    def _sources(self, key: Hashable) -> list[Hashable]:
        if key in self.steps:
            return _constants_of(self.steps[key])
        return derived_from(key)

    def _value(self, key: Any, dtype: torch.dtype | None) -> Any:
        if key in self.steps:
            step = self.steps[key]
            return run(step, lambda leaf: self(leaf.key, dtype), dtype)
        if isinstance(key, tuple) and key[0] in self.more:
            return self.more[key[0]](key, dtype)
        return derive(key, lambda inner: self(inner, dtype), dtype)
