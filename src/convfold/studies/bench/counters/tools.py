"""Other counters of multiply-accumulates, each asked in its own way; one that is not installed is left out."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from convfold.cost import cost
from convfold.zoo import import_torchvision

__all__ = ["TOOLS", "Inputs", "asked", "version_of"]

_OWN_PARTS = frozenset(name for name, value in vars(torch.Tensor).items() if not callable(value))
Inputs = tuple[Any, ...]


def _ours(model: nn.Module, inputs: Inputs) -> int:
    report = cost(model, inputs)
    report.require_counted()
    return report.macs


def _flop_counter_mode(model: nn.Module, inputs: Inputs) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    return counter.get_total_flops() // 2


def _fvcore(model: nn.Module, inputs: Inputs) -> int:
    from fvcore.nn import FlopCountAnalysis  # type: ignore[import-not-found]  # noqa: PLC0415

    # Its FLOPs are multiply-accumulates, as its documentation says.
    return int(FlopCountAnalysis(model, inputs).total())


def _thop(model: nn.Module, inputs: Inputs) -> int:
    from thop import profile  # type: ignore[import-not-found]  # noqa: PLC0415

    return int(profile(model, inputs=inputs, verbose=False)[0])


def _ptflops(backend: str) -> Callable[[nn.Module, Inputs], int]:
    def count(model: nn.Module, inputs: Inputs) -> int:
        import_torchvision()
        from ptflops import get_model_complexity_info  # type: ignore[import-not-found]  # noqa: PLC0415

        # It calls model(**inputs), and takes a shape that it has no use for then.
        wrapped = _ByName(model)
        given = {f"x{i}": value for i, value in enumerate(inputs)}
        found = get_model_complexity_info(
            wrapped,
            (1,),
            input_constructor=lambda _: given,
            as_strings=False,
            print_per_layer_stat=False,
            verbose=False,
            backend=backend,
        )[0]
        if found is None:
            raise RuntimeError("no figure")
        return int(found)

    return count


class _ByName(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Any) -> Any:
        return self.model(*inputs.values())


def _torchinfo(model: nn.Module, inputs: Inputs) -> int:
    from torchinfo import summary  # type: ignore[import-not-found]  # noqa: PLC0415

    return int(summary(model, input_data=inputs, verbose=0, device="cpu").total_mult_adds)


def _calflops(model: nn.Module, inputs: Inputs) -> int:
    import_torchvision()
    from calflops import calculate_flops  # type: ignore[import-not-found]  # noqa: PLC0415

    found = calculate_flops(model, args=list(inputs), print_results=False, print_detailed=False, output_as_string=False)
    return int(found[1])


TOOLS: dict[str, Callable[[nn.Module, Inputs], int]] = {
    "convfold": _ours,
    "FlopCounterMode": _flop_counter_mode,
    "fvcore": _fvcore,
    "thop": _thop,
    "ptflops": _ptflops("pytorch"),
    "ptflops (aten)": _ptflops("aten"),
    "torchinfo": _torchinfo,
    "calflops": _calflops,
}


def version_of(tool: str) -> str | None:
    """The version that is installed; None when there is none."""
    package = "torch" if tool == "FlopCounterMode" else tool.split()[0]
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def asked(tool: str, model: nn.Module, inputs: Inputs) -> int | str:
    """What the tool says of ``model(*inputs)``, or what stopped it."""
    try:
        with _silence(), _as_it_was():
            return TOOLS[tool](model, inputs)
    except Exception as error:  # any tool may fail in any way; that is what is asked
        return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}".rstrip(": ")


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Put back what a tool replaced in torch and left so when it failed: the next one is asked fairly."""
    places = (torch, torch.nn.functional, torch.Tensor)
    before = [{name: value for name, value in vars(place).items() if callable(value)} for place in places]
    named = set(vars(torch.Tensor))
    try:
        yield
    finally:
        for place, saved in zip(places, before, strict=True):
            for name, value in saved.items():
                if vars(place).get(name) is not value:
                    setattr(place, name, value)
        # What torch.Tensor inherits is replaced by something added to it.
        for name in set(vars(torch.Tensor)) - named:
            delattr(torch.Tensor, name)


@contextmanager
def _silence() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere:
        warnings.simplefilter("ignore")
        with redirect_stdout(nowhere), redirect_stderr(io.StringIO()):
            try:
                yield
            finally:
                logging.disable(before)
