"""``convfold cost conv``: one convolution beside all the forms that it might have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from convfold.cli.outputs import check_outputs
from convfold.cost.forms import read_spec
from convfold.cost.what_if.variants import layer_table, usual_forms
from convfold.errors import InvalidArgument
from convfold.files import write_text
from convfold.geometry import conv_window
from convfold.geometry.closed import Layer
from convfold.geometry.groups import check_groups

__all__ = ["conv", "layer_of"]

_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
Sizes = Annotated[str, typer.Option(metavar="SIZES", help="One number for all axes, or one for each, as 3x5.")]


def conv(
    input: Annotated[
        str, typer.Option("--input", metavar="SIZES", help="Sizes and, last, channels: 64x64x3; 100x8; 16x64x64x3.")
    ],
    kernel: Annotated[str, typer.Option(metavar="SIZES", help="Taps: one number for all axes, or 3x5.")],
    out: Annotated[int, typer.Option(min=1, help="Channels out.")],
    stride: Sizes = "1",
    padding: Annotated[str, typer.Option(metavar="SIZES", help="The same of padding; or same, or valid.")] = "",
    dilation: Sizes = "1",
    groups: Annotated[
        list[int] | None, typer.Option(min=1, help="Show this number of groups; repeatable. Else every legal one.")
    ] = None,
    multiplier: Annotated[
        list[int] | None, typer.Option(min=1, help="Show this depth multiplier of depthwise and separable; repeatable.")
    ] = None,
    form: Annotated[
        list[str] | None, typer.Option(help="Show this form alone, as tucker:8,16; repeatable.", show_default="all")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples.")] = 1,
    dtype: Annotated[str, typer.Option(help=f"What numbers are kept in: {', '.join(_BYTES)}.")] = "float32",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the table here, as JSON.")] = None,
) -> None:
    """Show what one convolution costs beside every form that it might have.

    1-D, 2-D or 3-D as the input is. MACs count zero padding; FLOPs are two for each MAC and one for each element
    that an activation makes (softmax: five); traffic is what operators read, weights too, and write. Nothing is built:
    all figures are in closed form.
    """
    check_outputs([("--json", json_file)], ())
    if dtype not in _BYTES:
        raise InvalidArgument(
            "numbers of this type are not known", where="--dtype", got=repr(dtype), expected=", ".join(_BYTES)
        )
    layer = layer_of(input, kernel, out, stride, padding, dilation, batch)
    wanted = [read_spec(one, "--form") for one in form or ()] or usual_forms(layer, groups or (), multiplier or ())
    if form and (groups or multiplier):
        raise InvalidArgument("--form names its own numbers", where="--groups and --multiplier", hint="As grouped:4.")
    table = layer_table(layer, wanted, _BYTES[dtype])
    if json_file is not None:
        write_text(json_file, json.dumps(table.to_dict(), indent=1) + "\n")
    typer.echo(table)
    if json_file is not None:
        typer.echo(f"written: {json_file}")


def layer_of(input: str, kernel: str, out: int, stride: str, padding: str, dilation: str, batch: int = 1) -> Layer:
    """The convolution that the options describe; padding "" stands for "same" at stride 1, else half the kernel.

    Raises InvalidArgument for sizes of another form or number of axes, and where the kernel does not fit the input.
    """
    *size, channels = _sizes(input, "--input")
    if not 1 <= len(size) <= 3:
        raise InvalidArgument(
            "a convolution has one to three axes",
            where="--input",
            got=repr(input),
            expected="as 64x64x3: channels last",
        )
    dims = len(size)
    kernels, strides = _each(kernel, dims, "--kernel"), _each(stride, dims, "--stride")
    dilations = _each(dilation, dims, "--dilation")
    if padding in ("same", "valid"):
        pads: object = padding
    elif padding:
        pads = _each(padding, dims, "--padding", least=0)
    else:
        pads = tuple(d * (k - 1) // 2 for k, d in zip(kernels, dilations, strict=True))
        if set(strides) == {1}:
            pads = "same"
    window = conv_window(dims, kernels, strides, pads, dilations)
    check_groups(channels, out, 1)
    layer = Layer(channels, out, window, tuple(size), 1, batch)
    if min(layer.out_size) < 1:
        raise InvalidArgument(
            "the kernel does not fit", where="--kernel", got=f"{kernel} on {input}",
            expected="at most the input with its padding", hint="--padding same keeps the size.",
        )  # fmt: skip
    return layer


def _sizes(text: str, where: str, least: int = 1) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(x\d+)*", text) or any(int(n) < least for n in text.split("x")):
        raise InvalidArgument("these are no sizes", where=where, got=repr(text), expected="sizes as 64x64x3")
    return tuple(int(n) for n in text.split("x"))


def _each(text: str, dims: int, where: str, least: int = 1) -> tuple[int, ...]:
    """One number for each axis."""
    found = _sizes(text, where, least)
    if len(found) not in (1, dims):
        raise InvalidArgument(
            "there is not one number for each axis", where=where, got=repr(text), expected=f"1 or {dims} numbers"
        )
    return found * dims if len(found) == 1 else found
