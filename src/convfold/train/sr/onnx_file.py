"""A folded network as an ONNX file with free height and width, and with notes that enlarging reads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from convfold.errors import InvalidArgument
from convfold.files import atomic_path
from convfold.graph import example_inputs
from convfold.train.sr.enlarge import NOTES, Enlarger
from convfold.train.sr.network import SrNetwork
from convfold.transform.ship.program import EXPORTERS, evaluating
from convfold.transform.ship.same import Reference
from convfold.zoo.quiet import quiet

__all__ = ["save_sr_onnx"]

# Batch, height and width of what the file is held to: wide, tall, as small as can be, and no power of two.
_PROBES = ((1, 24, 40), (3, 31, 9), (1, 1, 1), (2, 17, 17))


def save_sr_onnx(model: nn.Module, path: str | os.PathLike[str], notes: Mapping[str, Any]) -> None:
    """Write a folded `SrNetwork` as ONNX: input `small` (N, 1, H, W), output `large` (N, 1, s H, s W), N, H, W free.

    `notes` are kept inside, with the scale and the reach: `Enlarger` reads them. What was written is run in ONNX
    Runtime at several sizes and held to the model's own rounding error; needs onnx, onnxscript and onnxruntime.
    Raises InvalidArgument for other modules and for a network of colours, NotEqual when the file computes something
    else, FileProblem when it cannot be written; then no file is left.
    """
    import onnx  # noqa: PLC0415

    if not isinstance(model, SrNetwork):
        raise InvalidArgument("this is no folded network of convfold train sr", got=type(model).__name__)
    channels = next(module for module in model.modules() if isinstance(module, nn.Conv2d)).in_channels
    if channels != 1:
        raise InvalidArgument("convfold upscale runs networks of luminance", where="channels", got=channels, expected=1)
    axes = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    generator = torch.Generator().manual_seed(0)
    probes = [torch.rand(n, 1, h, w, generator=generator) for n, h, w in _PROBES]
    told = {**notes, "scale": model.scale, "reach": model.reach}
    with atomic_path(path) as beside, evaluating(model), quiet(*EXPORTERS):
        written = torch.onnx.export(
            model,
            (probes[1],),
            input_names=["small"],
            output_names=["large"],
            dynamic_shapes=(axes,),
            dynamo=True,
            verbose=False,
        )
        assert written is not None
        proto = written.model_proto
        proto.metadata_props.add(key=NOTES, value=json.dumps(told, sort_keys=True))
        onnx.checker.check_model(proto, full_check=True)
        beside.write_bytes(proto.SerializeToString())
        enlarger, reference = Enlarger(beside), Reference(model)
        for probe in probes:
            reference.check(example_inputs(model, (probe,)), enlarger.run(probe), str(path))
