"""Emission: the user's own module with the folded parts put in their places, each compared before it is kept."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from convfold.algebra import Op, frozen, hollow, kernel, twin
from convfold.algebra.readings.module import as_module, finish
from convfold.algebra.readings.tensors import tensors, to_meta
from convfold.errors import ConvfoldWarning, InvalidArgument, Refusal
from convfold.plan.regions import Region, expression, rolled_back
from convfold.verify import Certificate, certify

__all__ = ["emit", "nothing_like", "replace_module", "shadow"]


def replace_module(model: nn.Module, path: str, new: nn.Module) -> nn.Module:
    """`model` with `new` at `path` and at every other name of the same module; at "" it is `new` itself."""
    if path == "":
        return new
    old = model.get_submodule(path)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)
        # named_children lists a module once, even where its parent holds it under two names.
        for name, held in list(parent._modules.items()):
            if held is old:
                parent._modules[name] = new
    return model


def nothing_like(module: nn.Module) -> nn.Module:
    """What takes the place of a module that was taken in elsewhere."""
    return nn.Identity().train(module.training)


def _members(model: nn.Module, region: Region) -> list[nn.Module]:
    held = dict(model.named_modules(remove_duplicate=False))
    got = [type(held[path]).__name__ if path in held else "no such module" for path in region.paths]
    if got != list(region.types):
        raise InvalidArgument(
            f"the plan is not of this {type(model).__name__}",
            where=" + ".join(region.paths),
            got=", ".join(got),
            expected=", ".join(region.types),
            hint="Apply it to the model that it was made of, freshly built.",
        )
    return [held[path] for path in region.paths]


def _put(model: nn.Module, region: Region, folded: nn.Module) -> nn.Module:
    model = replace_module(model, region.paths[0], folded)
    for path in region.paths[1:]:
        model = replace_module(model, path, nothing_like(model.get_submodule(path)))
    return model


def _sizes(before: Op, after: Op) -> tuple[tuple[int, ...], ...]:
    """Two map sizes that the window fits into, one with an interior."""
    window = getattr(after, "window", ())
    return tuple(tuple(axis.span + abs(axis.lo) + abs(axis.hi) + more for axis in window) for more in (2, 5))


def emit(
    model: nn.Module, regions: tuple[Region, ...]
) -> tuple[nn.Module, dict[tuple[str, ...], Certificate], list[Refusal]]:
    """A copy of `model` with `regions` folded, a certificate for each, and a refusal for each rolled back.

    Each region is composed and compared in float64, then cast; a region that is not equal stays as it was.
    """
    plain = twin(model)
    certificates: dict[tuple[str, ...], Certificate] = {}
    refusals: list[Refusal] = []
    for region in regions:
        members = _members(plain, region)
        original = twin(nn.Sequential(*members)).eval().to(torch.float64)
        with torch.no_grad():
            before = expression(list(original))
            after = kernel(frozen(before, torch.float64))
            certificate = certify(before, after, _sizes(before, after), original)
        certificates[region.paths] = certificate
        if not certificate:
            refusals.append(rolled_back(region, certificate))
            warnings.warn(ConvfoldWarning(str(refusals[-1])), stacklevel=3)
            continue
        plain = _put(plain, region, finish(after, members[0], expression(members)))
    return plain, certificates, refusals


def shadow(model: nn.Module, regions: tuple[Region, ...]) -> nn.Module:
    """The structure that `emit` will give, without weights: a copy of `model` on the meta device."""
    copied = hollow(model)
    for region in regions:
        members = _members(model, region)
        whole = expression(members)
        dtype = next(tensors(whole), torch.empty(0)).dtype
        copied = _put(
            copied, region, as_module(kernel(to_meta(whole)), members[0]).to(dtype).train(members[0].training)
        )
    return copied
