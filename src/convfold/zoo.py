"""Models by name: ``timm:NAME``, ``torchvision:NAME`` and ``package.module:factory``."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from convfold.errors import FileProblem, InvalidArgument, InvalidType, UnknownName

__all__ = ["import_torchvision", "load_model", "load_weights"]

_kept_alive: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """Import torchvision, also where its build does not match torch's.

    PyPI's torchvision is built for CUDA; beside a CPU build of torch its compiled operators do not load, and the
    import fails with "operator torchvision::nms does not exist". Declaring the schemas of the two
    operators that the import registers cures that; they are not called by any classification model.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept_alive.append(library)  # a library's operators live as long as it does
    return importlib.import_module("torchvision")


def load_model(name: str, **options: Any) -> nn.Module:
    """Build the model of that name, without downloading anything; `options` go to its factory.

    Raises UnknownName with the nearest names, InvalidArgument for a name of another form or a package that is
    not installed, InvalidType when a factory gives no module.
    """
    library, _, rest = name.partition(":")
    if not rest:
        raise InvalidArgument(
            "this names no model",
            got=repr(name),
            expected="timm:NAME, torchvision:NAME or package.module:factory",
        )
    try:
        if library == "timm":
            import_torchvision()
            timm = importlib.import_module("timm")
            return _known(rest, timm.list_models(), lambda: timm.create_model(rest, pretrained=False, **options))
        if library == "torchvision":
            models = import_torchvision().models  # type: ignore[attr-defined]
            return _known(rest, models.list_models(), lambda: models.get_model(rest, weights=None, **options))
        return _factory(library, rest, options)
    except ModuleNotFoundError as error:
        extra = "pip install 'convfold[zoo]'" if library in ("timm", "torchvision") else "Is it on PYTHONPATH?"
        raise InvalidArgument(f"the package {error.name} is not installed", where=name, hint=extra) from error


def _known(name: str, names: list[str], make: Any) -> nn.Module:
    if name not in names:
        near = difflib.get_close_matches(name, names, 3)
        raise UnknownName("unknown model", got=repr(name), hint=f"Did you mean {', '.join(near)}?" if near else "")
    return make()  # type: ignore[no-any-return]


def _factory(module: str, attribute: str, options: dict[str, Any]) -> nn.Module:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does: a user's own file beside him
    found = importlib.import_module(module)
    if not hasattr(found, attribute):
        near = difflib.get_close_matches(attribute, dir(found), 3)
        raise UnknownName(f"{module} has no {attribute}", hint=f"Did you mean {', '.join(near)}?" if near else "")
    model = getattr(found, attribute)
    model = model if isinstance(model, nn.Module) else model(**options)
    if not isinstance(model, nn.Module):
        raise InvalidType(
            "the factory gave no model", where=f"{module}:{attribute}", got=type(model).__name__, expected="nn.Module"
        )
    return model


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a ``.safetensors`` file into `model`.

    Raises FileProblem, naming what is missing or does not fit, before anything is loaded.
    """
    try:
        weights = load_file(path)
    except Exception as error:  # safetensors raises several kinds
        reason = " ".join(str(error).split())[:300]
        raise FileProblem(f"these weights do not load ({reason})", where=str(path)) from error
    expected = model.state_dict()
    missing, unknown = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    misfits = sorted(name for name in expected.keys() & weights.keys() if expected[name].shape != weights[name].shape)
    if missing or unknown or misfits:
        raise FileProblem(
            "these weights are of another model",
            where=str(path),
            got=f"{_some(missing)} missing, {_some(unknown)} unknown, {_some(misfits)} of another shape",
        )
    model.load_state_dict(weights)


def _some(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])})" if names else "none"
