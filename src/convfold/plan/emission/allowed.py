"""What the source of a forward that was read from a file may say: what emission writes, and nothing else.

Such a source is compiled and run. Every statement and expression is therefore one that emission writes, and what
it names is held by the module, is a value of the forward, or is one of the functions that emission calls.
"""

from __future__ import annotations

import ast
import dataclasses
import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from convfold.errors import InvalidArgument
from convfold.plan.emission.spelling import FUNCTIONS, METHODS

__all__ = ["check_source"]

_BUILTINS = frozenset({"abs", "float", "int", "max", "min", "round"})
_RESERVED = _BUILTINS | {"self", "torch", "F", "forward", "getattr"}
_PLAIN = (torch.dtype, torch.layout, torch.memory_format)
_OPERATORS = "torch.ops.aten."
# Expressions whose parts alone decide.
_OPEN = (ast.Tuple, ast.List, ast.Dict, ast.Slice, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp)


def check_source(module: nn.Module, source: str, packages: Iterable[str] = ()) -> None:
    """Check the source of a forward for `module`, which holds by now all that the forward names.

    Containers that the forward makes (a named tuple, a dataclass, a dict) may be imported from `packages`.
    Raises InvalidArgument for whatever emission would not write.
    """
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError) as error:
        raise InvalidArgument(f"the forward of a saved plan is no Python ({error})") from error
    checker = _Checker(module, {"collections", *packages} - {"torch", "builtins"})
    for statement in body[:-1]:
        checker.container(statement)
    if not body or not isinstance(body[-1], ast.FunctionDef):
        raise _refused(body[-1] if body else None, "one function")
    checker.function(body[-1])


def _refused(node: ast.AST | None, expected: str = "what a fold writes") -> InvalidArgument:
    shown = "nothing" if node is None else " ".join(ast.unparse(node).split())
    return InvalidArgument(
        "the forward of a saved plan holds something that no fold writes",
        got=shown if len(shown) <= 80 else f"{shown[:77]}...",
        expected=expected,
        hint="Do not use this file unless you know where it comes from; convfold.plan makes the plan anew.",
    )


def _dotted(node: ast.AST) -> str:
    """``torch.a.b`` or ``F.a`` as text; "" for anything else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) and node.id in ("torch", "F") else ""


def _is_operator(name: str) -> bool:
    """Whether torch has this operator, and it only computes: it writes no tensor and opens no file."""
    parts = name.removeprefix(_OPERATORS).split(".")
    if len(parts) != 2 or any(part.startswith("__") for part in parts):
        return False
    target = getattr(getattr(torch.ops.aten, parts[0], None), parts[1], None)
    if not isinstance(target, torch._ops.OpOverload):
        return False
    schema: Any = target._schema
    full = f"{schema.name}.{schema.overload_name}" if schema.overload_name else schema.name
    return (
        torch._C._dispatch_has_kernel(full)
        and not schema.is_mutable
        and all(argument.name != "filename" for argument in schema.arguments)
    )


class _Checker:
    """Walks a forward; a name of it is a child of `module`, a tensor of it, or a value."""

    def __init__(self, module: nn.Module, packages: set[str]) -> None:
        self.module, self.packages = module, packages
        self.known: set[str] = set()
        self.containers: set[str] = set()

    def container(self, statement: ast.stmt) -> None:
        """The import of a class that only holds values, from where the model's own classes come from."""
        if not isinstance(statement, ast.ImportFrom) or statement.level or len(statement.names) != 1:
            raise _refused(statement)
        name, path = statement.names[0].name, statement.module or ""
        cls: Any = getattr(sys.modules.get(path), name, None)
        named = isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "_fields")
        holds = isinstance(cls, type) and (named or issubclass(cls, dict) or dataclasses.is_dataclass(cls))
        renamed = statement.names[0].asname is not None
        if renamed or not holds or name in _RESERVED or path.split(".")[0] not in self.packages:
            raise _refused(statement, "the import of a container from the package of the model")
        self.containers.add(name)

    def function(self, node: ast.FunctionDef) -> None:
        given = node.args
        named = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
        names = [argument.arg for argument in named]
        plain = not node.decorator_list and node.returns is None and all(a.annotation is None for a in named)
        if node.name != "forward" or not plain or names[:1] != ["self"] or _RESERVED & set(names[1:]):
            raise _refused(node, "def forward(self, ...)")
        self.known.update(names[1:])
        for default in (*given.defaults, *filter(None, given.kw_defaults)):
            self.value(default)
        for statement in node.body:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign):
            self.plain(node.value)
            for target in node.targets:
                self.target(target)
        elif isinstance(node, ast.Delete):
            for target in node.targets:
                self.target(target)
        elif isinstance(node, (ast.Return, ast.Expr)):
            if node.value is not None:
                self.plain(node.value)
        else:
            raise _refused(node)

    def target(self, node: ast.expr) -> None:
        if isinstance(node, ast.Tuple):
            for part in node.elts:
                self.target(part)
        elif isinstance(node, ast.Name) and node.id not in _RESERVED and not node.id.startswith("__"):
            self.known.add(node.id)
        else:
            raise _refused(node, "a name")

    def plain(self, node: ast.expr) -> None:
        """An expression that may stand anywhere: no module."""
        if self.value(node) is not None:
            raise _refused(node, "a value, not a module")

    def value(self, node: ast.expr) -> nn.Module | None:
        """What an expression is: the module that it names; None for a value."""
        if isinstance(node, ast.Name):
            if node.id == "self":
                return self.module
            if node.id in self.known:
                return None
        elif isinstance(node, ast.Constant):
            return None
        elif isinstance(node, ast.Attribute):
            return self.attribute(node)
        elif isinstance(node, ast.Subscript):
            return self.item(node)
        elif isinstance(node, ast.Call):
            return self.call(node)
        elif isinstance(node, _OPEN):
            for part in ast.iter_child_nodes(node):
                if isinstance(part, ast.expr):
                    self.plain(part)
            return None
        raise _refused(node)

    def attribute(self, node: ast.Attribute) -> nn.Module | None:
        name = _dotted(node)
        if name:
            if name.count(".") == 1 and isinstance(getattr(torch, node.attr, None), _PLAIN):
                return None
            raise _refused(node)
        found = self.value(node.value)
        if found is not None:
            return self.held(found, node.attr, node)
        if node.attr.startswith("_"):
            raise _refused(node)
        return None

    def held(self, module: nn.Module, name: str, node: ast.expr) -> nn.Module | None:
        if module._modules.get(name) is not None:
            return module._modules[name]
        if name == "training" or name in module._parameters or name in module._buffers:
            return None
        raise _refused(node, f"a module or a tensor that {type(module).__name__} holds")

    def item(self, node: ast.Subscript) -> nn.Module | None:
        found = self.value(node.value)
        if found is None:
            self.plain(node.slice)
            return None
        key = node.slice.value if isinstance(node.slice, ast.Constant) else None
        listed = isinstance(found, (nn.Sequential, nn.ModuleList)) and type(key) is int
        if not listed and not (isinstance(found, nn.ModuleDict) and isinstance(key, str)):
            raise _refused(node)
        return self.held(found, str(key), node)

    def call(self, node: ast.Call) -> nn.Module | None:
        function = node.func
        if isinstance(function, ast.Name) and function.id == "getattr":
            name = node.args[1].value if len(node.args) == 2 and isinstance(node.args[1], ast.Constant) else None
            module = self.value(node.args[0]) if isinstance(name, str) and not node.keywords else None
            if module is None:
                raise _refused(node)
            return self.held(module, str(name), node)
        for part in (*node.args, *(keyword.value for keyword in node.keywords)):
            self.plain(part)
        dotted = _dotted(function)
        if dotted:
            known = dotted in FUNCTIONS or (dotted.startswith(_OPERATORS) and _is_operator(dotted))
        elif isinstance(function, ast.Name):
            known = function.id in _BUILTINS | self.containers
        elif isinstance(function, ast.Attribute) and function.attr in METHODS and self.value(function.value) is None:
            known = True
        else:
            known = self.value(function) is not None and not (isinstance(function, ast.Name))
        if not known or any(keyword.arg is None for keyword in node.keywords):
            raise _refused(node)
        return None
