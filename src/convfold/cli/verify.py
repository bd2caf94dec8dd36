"""``convfold verify``: do two models compute the same?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from convfold.cli.models import FORMS_HELP, Built, Inputs, Weights, build
from convfold.cli.onnx_files import verify_files
from convfold.cli.progress import stages
from convfold.errors import InvalidArgument
from convfold.plan import load_plan
from convfold.transform.ship import PLAN, WEIGHTS
from convfold.verify import verify as compare
from convfold.zoo import is_onnx, is_program, load_weights

__all__ = ["verify"]


def verify(
    a: Annotated[str, typer.Argument(metavar="A", help=FORMS_HELP)],
    b: Annotated[str, typer.Argument(metavar="B", help="Another model, or the folder that convfold fold made of A.")],
    input: Inputs = None,
    weights: Weights = None,
) -> int:
    """Compare models A and B: exit code 0 when they are equal within the derived bound, 1 when they are not.

    WEIGHTS go into A. A .pt2 file is compared at the sizes that it was exported for; an .onnx file is compared with an
    .onnx file, in ONNX Runtime.
    """
    if is_onnx(a) or is_onnx(b):
        return verify_files(a, b, input, weights)
    with stages(3) as stage:
        stage(f"building {a}")
        first = build(a, weights)
        stage(f"building {b}")
        second = _folder(a, Path(b)) if (Path(b) / PLAN).is_file() else build(b)
        known = Built(a, first.model, first.known if first.known is not None else second.known)
        inputs = known.needed(input, "models are compared on an example input")
        stage("comparing")
        one_size = is_program(b) and not is_program(a)
        certificate = compare(_AtSizes(first.model, inputs) if one_size else first.model, second.model, inputs)
    typer.echo(certificate)
    return 0 if certificate else 1


def _folder(a: str, folder: Path) -> Built:
    """What a folder holds, in the code of model `a`."""
    folded = load_plan(folder / PLAN).apply(build(a).model)
    load_weights(folded, folder / WEIGHTS)
    return Built(str(folder), folded.eval(), None)


class _AtSizes(nn.Module):
    """A model that takes inputs of these sizes alone, batch aside: as a program does that was exported so.

    `convfold.verify` tries larger maps on a model that takes them, which the program is then asked to take too.
    """

    def __init__(self, model: nn.Module, inputs: object) -> None:
        super().__init__()
        self.model = model
        self.sizes = _sizes(inputs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if _sizes((args, kwargs)) != self.sizes:
            raise InvalidArgument("these sizes are not compared")
        return self.model(*args, **kwargs)


def _sizes(inputs: object) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape[1:]) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
