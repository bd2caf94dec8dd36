"""``convfold upscale``: a picture enlarged by a folded network."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from convfold.cli.outputs import check_outputs
from convfold.errors import FileProblem, InvalidArgument
from convfold.train.sr.enlarge import Enlarger
from convfold.train.sr.upscale import check_form, enlarged, open_picture, save_picture

__all__ = ["upscale"]

# In pixels of the picture given: what a run holds in memory does not grow with the picture.
_TILE = 512
_NEEDS = ("PIL", "onnxruntime")


def upscale(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="A picture file.")],
    model: Annotated[
        Path | None, typer.Option(help="An .onnx file of convfold train sr; needed.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write.", show_default="PICTURE-xS.png, S the scale")
    ] = None,
    scale: Annotated[
        int | None, typer.Option(help="What the network must enlarge by.", show_default="whatever it does")
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            help="Edge of the squares that a large picture is run in.",
            show_default=f"{_TILE}; the whole where a file does not say how far a pixel reaches",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over a picture that is there.")] = False,
) -> None:
    """Enlarge (or restore) a picture with a network that convfold train sr folded.

    The network sees luminance; colours and transparency are enlarged by a cubic.

    Large pictures are run in squares that overlap: the result is that of the whole picture at once.
    """
    if model is None:
        raise InvalidArgument(
            "it takes a network, and convfold brings none",
            where="--model",
            expected="an .onnx file",
            hint="convfold train sr --out sr trains one; then convfold upscale PICTURE --model sr/models/doconv.onnx.",
        )
    if missing := [name for name in _NEEDS if find_spec(name) is None]:
        hint = "pip install 'convfold[train,onnx]' brings them."
        raise InvalidArgument(f"this needs {' and '.join(missing)}, not installed", where="convfold upscale", hint=hint)
    opened = open_picture(picture)
    enlarger = Enlarger(model)
    if scale is not None and scale != enlarger.scale:
        raise InvalidArgument("the network has another scale", where="--scale", got=scale, expected=enlarger.scale)
    suffix = f"-x{enlarger.scale}.png" if enlarger.scale > 1 else "-restored.png"
    target = picture.with_name(picture.stem + suffix) if out is None else out
    check_form(target, opened.alpha is not None)
    check_outputs([("--out", target)], [picture, model])
    if target.exists() and not overwrite:
        raise FileProblem(
            "there is a file already", where=str(target), hint="--overwrite replaces it; or name another with --out."
        )
    if tile is None and enlarger.reach is not None:
        tile = _TILE
    large = enlarged(opened, enlarger, tile)
    save_picture(large, target)
    before, after = ("x".join(map(str, one.values.shape[:0:-1])) for one in (opened, large))
    Console().print(
        f"{target}: {before} -> {after}, by {model}", highlight=False, emoji=False, markup=False, soft_wrap=True
    )
