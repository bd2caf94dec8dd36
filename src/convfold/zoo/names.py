"""Models by name: ``timm:NAME``, ``torchvision:NAME``, ``package.module:factory`` and ``file.pt2``."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from convfold.errors import InvalidArgument, InvalidType, UnknownName
from convfold.zoo.program import read_program

__all__ = ["FILE_FORMS", "FORMS", "import_torchvision", "is_onnx", "is_program", "load_model"]

FORMS = "timm:NAME, torchvision:NAME, package.module:factory or file.pt2"
# What verbs take that read ONNX files too.
FILE_FORMS = "timm:NAME, torchvision:NAME, package.module:factory, file.pt2 or file.onnx"
_ONNX_VERBS = "convfold cost, fold, plan and verify take ONNX files."

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
    not installed, InvalidType when a factory gives no module, FileProblem for a file that does not load.
    """
    library, _, rest = name.partition(":")
    if is_program(name):
        return read_program(name).model
    if is_onnx(name):
        raise InvalidArgument("an ONNX file is no torch model", where=name, expected=FORMS, hint=_ONNX_VERBS)
    if not rest:
        folder = "A folder that fold wrote goes with its model: convfold verify MODEL FOLDER."
        hint = folder if os.path.isdir(name) else _ONNX_VERBS
        raise InvalidArgument("this names no model", got=repr(name), expected=FORMS, hint=hint)
    try:
        if library == "timm":
            import_torchvision()
            timm = importlib.import_module("timm")
            return _known(rest, timm.list_models(), lambda: timm.create_model(rest, pretrained=False, **options))
        if library == "torchvision":
            models = import_torchvision().models  # type: ignore[attr-defined]
            return _known(rest, models.list_models(), lambda: _torchvision(models, rest, options))
        return _factory(library, rest, options)
    except ModuleNotFoundError as error:
        extra = "pip install 'convfold[zoo]'" if library in ("timm", "torchvision") else "Is it on PYTHONPATH?"
        raise InvalidArgument(f"the package {error.name} is not installed", where=name, hint=extra) from error


def is_program(name: str) -> bool:
    """Whether the name is that of a ``.pt2`` file."""
    return _suffix(name) == ".pt2"


def is_onnx(name: str) -> bool:
    """Whether the name is that of an ONNX file."""
    return _suffix(name) == ".onnx"


def _suffix(name: str) -> str:
    return "" if name.startswith(("timm:", "torchvision:")) else Path(name).suffix.lower()


def _known(name: str, names: list[str], make: Any) -> nn.Module:
    if name not in names:
        near = difflib.get_close_matches(name, names, 3)
        raise UnknownName("unknown model", got=repr(name), hint=f"Did you mean {', '.join(near)}?" if near else "")
    return make()  # type: ignore[no-any-return]


def _torchvision(models: ModuleType, name: str, options: dict[str, Any]) -> nn.Module:
    # Detectors and segmenters download weights of their backbone unless these are refused by name.
    takes = inspect.signature(models.get_model_builder(name)).parameters
    none = {key: None for key in ("weights", "weights_backbone") if key in takes}
    return models.get_model(name, **none, **options)  # type: ignore[no-any-return]


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
