"""``convfold verify``: do two models compute the same?"""

from __future__ import annotations

from typing import Annotated

import typer

from convfold.cli.models import Inputs, Model, build_model, example
from convfold.errors import InvalidArgument
from convfold.verify import verify as compare

__all__ = ["verify"]


def verify(
    a: Model,
    b: Annotated[str, typer.Argument(help="The model to compare with it.")],
    input: Inputs = None,
) -> int:
    """Compare models A and B: exit code 0 when they are equal within the derived bound, 1 when they are not."""
    first, second = build_model(a, None), build_model(b, None)
    inputs = example(first, input)
    if inputs is None:
        raise InvalidArgument(
            "models are compared on an example input", where="--input", expected="a shape as 1x3x224x224"
        )
    certificate = compare(first, second, inputs)
    typer.echo(certificate)
    return 0 if certificate else 1
