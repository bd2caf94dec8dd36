"""Example inputs: a tensor, a tuple of positional or a dict of keyword inputs, each named for errors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from convfold.errors import InvalidArgument, InvalidType

__all__ = ["ExampleInputs", "describe", "does_not_run", "example_inputs"]


def describe(value: object) -> str:
    """``float32 [1, 3, 8, 8]`` for a tensor, the same for each tensor in a container, else the type."""
    tensors = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
    if not tensors:
        return type(value).__name__
    return ", ".join(f"{str(t.dtype).removeprefix('torch.')} {list(t.shape)}" for t in tensors)


@dataclass(frozen=True)
class ExampleInputs:
    """The arguments of one call of a model, and what each is called in an error."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    names: tuple[str, ...]

    def named(self) -> dict[str, Any]:
        """Each input under its name, in order."""
        return dict(zip(self.names, [*self.args, *self.kwargs.values()], strict=True))

    def described(self) -> str:
        """Each input's name with its type and shape."""
        return ", ".join(f"{name}: {describe(value)}" for name, value in self.named().items())

    def call(self, model: nn.Module) -> Any:
        """``model(*args, **kwargs)``"""
        return model(*self.args, **self.kwargs)

    def map(self, change: Callable[[Tensor], Tensor]) -> ExampleInputs:
        """The same inputs with every tensor changed."""

        def leaf(value: object) -> object:
            return change(value) if isinstance(value, Tensor) else value

        return ExampleInputs(tree_map(leaf, self.args), tree_map(leaf, dict(self.kwargs)), self.names)


def does_not_run(
    model: nn.Module,
    given: ExampleInputs,
    error: Exception,
    sentence: str = "the model does not run on these example inputs",
) -> InvalidArgument:
    """The error of a model that raised `error` on the inputs."""
    reason = " ".join(str(error).split())[:200]
    return InvalidArgument(f"{sentence} ({reason})", where=type(model).__name__, got=given.described())


def example_inputs(model: nn.Module, inputs: object) -> ExampleInputs:
    """Read `inputs` as the arguments of ``model(...)``.

    Raises InvalidType when it is neither a tensor, a tuple nor a dict with names as keys, and
    InvalidArgument when the model's ``forward`` cannot take that many inputs or those names.
    """
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(inputs, Tensor):
        args = (inputs,)
    elif isinstance(inputs, tuple):
        args = inputs
    elif isinstance(inputs, dict) and all(isinstance(key, str) for key in inputs):
        kwargs = inputs
    else:
        raise InvalidType(
            "example inputs are of the wrong type",
            got=type(inputs).__name__,
            expected="a tensor, a tuple of positional inputs or a dict of keyword inputs",
            hint="A list that is itself one input goes into a tuple: ([a, b],).",
        )
    try:
        signature = inspect.signature(model.forward)
    except ValueError:  # a forward written in C++ shows no signature
        signature = inspect.signature(lambda *args, **kwargs: None)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidArgument(
            f"the model does not take these example inputs ({error})",
            where=f"{type(model).__name__}.forward",
            got=f"{len(args)} positional" + (f" and {', '.join(kwargs)}" if kwargs else ""),
            expected=f"forward{signature}",
        ) from None
    parameters = [name for name in bound.arguments if signature.parameters[name].kind.name.startswith("POS")]
    names = [f"input {i} ('{parameters[i]}')" if i < len(parameters) else f"input {i}" for i in range(len(args))]
    return ExampleInputs(args, kwargs, (*names, *(f"input '{name}'" for name in kwargs)))
