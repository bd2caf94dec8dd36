"""What a fold changed in a model's structure, as plain values: so that it can be repeated without folding again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from convfold.algebra import is_mixed, twin
from convfold.errors import InvalidArgument
from convfold.plan.emission.allowed import check_source
from convfold.plan.emission.rewritten import Rewritten, rewrite
from convfold.plan.made import MADE, arguments_of, fill, made_of, make, tensor_of

__all__ = ["apply_changes", "changes", "read_changes"]

Change = dict[str, Any]


def changes(original: nn.Module, folded: nn.Module, made: Iterable[str] = ()) -> list[Change]:
    """Every module of `folded` that is not the original's: replaced by another, or with another forward.

    Outermost first. Each is a dict of plain values: its `path`, the `was` class, and either the `made` class with
    its arguments, or the path of the `same` module, or the `forward` that was written, with the `tensors` that it
    brought along and those that are `gone`; a mixture that was folded keeps its forward, and is `without` some
    modules. What stands at the paths `made` is new even if it looks as before.
    """
    before, new = dict(original.named_modules(remove_duplicate=False)), set(made)
    found: list[Change] = []
    inside: list[str] = []
    first: dict[int, str] = {}
    for path, module in folded.named_modules(remove_duplicate=False):
        fresh = any(path.startswith(f"{outer}.") or outer == "" for outer in inside)
        held = before.get(path)
        entry = {"path": path, "was": "" if held is None else type(held).__name__}
        old = None if fresh else held
        if isinstance(module, Rewritten):
            if type(module) is not type(held) and id(module) not in first:
                first[id(module)] = path
                found.append({**entry, **_rewritten(module, held)})
        elif (
            held is not None and type(module) is type(held) and is_mixed(module) and _tensors(module) != _tensors(held)
        ):
            found.append({**entry, **_brought(module, held), "without": _gone_modules(module, held)})
        elif type(module) in MADE.values() and (path in new - {""} or _differs(module, old)):
            known = first.setdefault(id(module), path)
            entry["was"] = "" if fresh else entry["was"]
            found.append({**entry, **(made_of(module) if known == path else {"same": known})})
            inside.append(path)
    return found


def _differs(module: nn.Module, old: nn.Module | None) -> bool:
    names = set(module._modules), set(old._modules if old is not None else ())
    return type(module) is not type(old) or arguments_of(module) != arguments_of(old) or names[0] < names[1]


def _folded_mixture(module: nn.Module, old: nn.Module) -> bool:
    return is_mixed(module) and type(module) is type(old) and _tensors(module) != _tensors(old)


def _rewritten(module: Any, old: nn.Module | None) -> Change:
    return {"forward": module.convfold_forward, **_brought(module, old)}


def _tensors(holder: nn.Module | None) -> dict[str, tuple[int, ...]]:
    """The shapes of what a module holds itself, by name."""
    held = () if holder is None else (*holder._parameters.items(), *holder._buffers.items())
    return {name: tuple(tensor.shape) for name, tensor in held if tensor is not None}


def _brought(module: nn.Module, old: nn.Module | None) -> Change:
    own, was = _tensors(module), _tensors(old)
    brought = {name: tensor_of(getattr(module, name)) for name in own if name not in was}
    return {"tensors": brought, "gone": sorted(set(was) - set(own))}


def _gone_modules(module: nn.Module, old: nn.Module) -> list[str]:
    return sorted(name for name, held in old._modules.items() if held is not None and not module._modules.get(name))


_FIELDS = {
    "path": str,
    "was": str,
    "forward": str,
    "tensors": dict,
    "gone": list,
    "made": str,
    "same": str,
    "without": list,
}
_KINDS = ({"made", "arguments", "training"}, {"same"}, {"forward", "tensors", "gone"}, {"without", "tensors", "gone"})


def read_changes(fields: Any) -> list[Change]:
    """Changes as a file holds them. Raises ValueError for what cannot be any."""
    for change in fields:
        names = set(change) if isinstance(change, dict) else set()
        if not {"path", "was"} <= names or not any(kind <= names for kind in _KINDS):
            raise ValueError(f"a change {str(change)[:60]}")
        if not all(isinstance(change.get(name, cls()), cls) for name, cls in _FIELDS.items()):
            raise ValueError(f"a change {str(change)[:60]}")
    return list(fields)


def apply_changes(model: nn.Module, found: list[Change], *, trusted: bool = True) -> nn.Module:
    """A copy of `model` with the changes made; new weights are not a number until folded ones are loaded.

    Changes that were read from a file are not `trusted`: their forwards are compiled only if they say nothing but
    what a fold writes. Raises InvalidArgument for others, and when the model is not of the structure that the
    changes were found in.
    """
    copy = twin(model)
    forwards: list[tuple[str, str]] = []
    for change in found:
        path, (parent_path, _, name) = change["path"], change["path"].rpartition(".")
        held = dict(copy.named_modules(remove_duplicate=False))
        old = held.get(path)
        got = type(old).__name__ if old is not None else ""
        if got != change["was"] or parent_path not in held or change.get("same", "") not in held:
            raise InvalidArgument(
                f"the plan is not of this {type(model).__name__}",
                where=path,
                got=got or "no such module",
                expected=change["was"] or "a module to put it in",
                hint="Apply it to the model that it was made of, freshly built.",
            )
        if "forward" in change or "without" in change:
            assert old is not None
            _retensor(old, change)
            for inner in change.get("without", ()):
                old._modules[inner] = None
            forwards += [(path, change["forward"])] if "forward" in change else []
        else:
            new = held[change["same"]] if "same" in change else make(change)
            if path == "":
                copy = new
            else:
                held[parent_path]._modules[name] = new
    # A forward names what is put below it: all of that is there now.
    packages = {type(module).__module__.split(".")[0] for module in model.modules()}
    for path, source in forwards:
        module = copy.get_submodule(path)
        if not trusted:
            check_source(module, source, packages)
        rewrite(module, source)
    return copy


def _retensor(module: nn.Module, change: Change) -> None:
    for name in change["gone"]:
        for held in (module._parameters, module._buffers):
            if name in held:
                held[name] = None
    for name, fields in change["tensors"].items():
        if getattr(module, name, None) is not None:
            raise InvalidArgument(
                f"the plan is not of this {type(module).__name__}",
                where=change["path"],
                got=f"a module that has '{name}' already",
                hint="Apply it to the model that it was made of, freshly built.",
            )
        fill(module, name, fields)
