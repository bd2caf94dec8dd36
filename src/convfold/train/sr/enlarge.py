"""A folded network, run from its ONNX file: whole pictures, large ones in tiles that leave no seam."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convfold.errors import FileProblem, InvalidArgument

__all__ = ["NOTES", "Enlarger", "tiles"]

# The key of a file's notes, as JSON: scale, reach, and what it was trained on.
NOTES = "convfold.sr"
_PROBE = 9, 12


class Enlarger:
    """An ONNX file that takes luminance (N, 1, H, W) in [0, 1] to (N, 1, s H, s W), run in ONNX Runtime on the CPU.

    `scale` is s, `reach` how many input pixels to each side an output depends on (None where the file does not say),
    `notes` what `save_sr_onnx` was told. Raises FileProblem for a file that is no such network: no ONNX, more than one
    input or output, another number of channels, a fixed height or width, sides that do not grow by one whole factor.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import onnxruntime  # noqa: PLC0415

        self.path = Path(path)
        if not self.path.is_file():
            raise FileProblem("there is no such file", where=str(path), hint="convfold train sr writes such networks.")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own kinds, which it does not export
            reason = " ".join(str(error).split())[:160]
            raise FileProblem(f"ONNX Runtime does not read it ({reason})", where=str(path)) from error
        self._check_form()
        self.notes = self._notes()
        self.scale = self._scale()
        self.reach: int | None = self.notes.get("reach")

    def run(self, small: Tensor) -> Tensor:
        """All of it at once."""
        (name,) = (value.name for value in self._session.get_inputs())
        return torch.from_numpy(self._session.run(None, {name: small.float().numpy()})[0])

    def __call__(self, small: Tensor, tile: int | None = None) -> Tensor:
        """The picture (N, 1, H, W) enlarged; with `tile`, in squares of at most that edge, with the same result.

        A tile is given `reach` more pixels on every side that lies inside the picture, so that each pixel kept sees
        what it sees in the whole. Raises InvalidArgument for a tile where the reach is not known.
        """
        if tile is None or max(small.shape[-2:]) <= tile:
            return self.run(small)
        if self.reach is None:
            raise InvalidArgument(
                "the file does not say how far a pixel reaches, so it cannot be run in tiles", where=str(self.path)
            )
        scale, (height, width) = self.scale, small.shape[-2:]
        large = small.new_empty(*small.shape[:2], height * scale, width * scale)
        for top, bottom, up, down in tiles(height, tile, self.reach):
            for left, right, before, after in tiles(width, tile, self.reach):
                found = self.run(small[..., up:down, before:after])
                kept = found[
                    ..., (top - up) * scale : (bottom - up) * scale, (left - before) * scale : (right - before) * scale
                ]
                large[..., top * scale : bottom * scale, left * scale : right * scale] = kept
        return large

    def _check_form(self) -> None:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise self._other(f"{len(inputs)} inputs and {len(outputs)} outputs", "one of each")
        shape, kind = inputs[0].shape, inputs[0].type
        free = len(shape) == 4 and all(not isinstance(size, int) for size in shape[2:])
        if kind != "tensor(float)" or not free or (isinstance(shape[1], int) and shape[1] != 1):
            raise self._other(f"an input {kind} of {shape}", "float32 of (N, 1, H, W) with free height and width")

    def _notes(self) -> dict[str, Any]:
        text = self._session.get_modelmeta().custom_metadata_map.get(NOTES, "{}")
        try:
            notes = json.loads(text)
        except ValueError as error:
            raise self._other("notes that are no JSON", "those of convfold train sr") from error
        if not isinstance(notes, dict) or not all(_whole(notes.get(key, 1)) for key in ("scale", "reach")):
            raise self._other(f"notes {text[:80]!r}", "whole numbers for scale and reach")
        return notes

    def _scale(self) -> int:
        height, width = _PROBE
        try:
            shape = list(self.run(torch.zeros(1, 1, height, width)).shape)
        except Exception as error:  # as above
            reason = " ".join(str(error).split())[:160]
            raise self._other(f"an error on a picture of {height}x{width} ({reason})", "a picture") from error
        scale = shape[-1] // width if len(shape) == 4 else 0
        if scale < 1 or shape != [1, 1, scale * height, scale * width]:
            raise self._other(f"an output of {shape} for 1x1x{height}x{width}", "both sides larger by one whole factor")
        if self.notes.get("scale", scale) != scale:
            raise self._other(f"scale {scale} where its notes say {self.notes['scale']}", "one scale")
        return scale

    def _other(self, got: str, expected: str) -> FileProblem:
        return FileProblem(
            "this network does not enlarge luminance",
            where=str(self.path),
            got=got,
            expected=expected,
            hint="convfold train sr writes such networks.",
        )


def _whole(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def tiles(length: int, tile: int, reach: int) -> Iterator[tuple[int, int, int, int]]:
    """Cuts of one axis: from, to, and both moved out by `reach` within it. Raises InvalidArgument for a tile < 1."""
    if tile < 1:
        raise InvalidArgument("a tile has pixels", where="tile", got=tile, expected="1 or more")
    for start in range(0, length, tile):
        end = min(start + tile, length)
        yield start, end, max(start - reach, 0), min(end + reach, length)
