"""Receptive fields along a file's nodes: exact for convolutions, poolings and what keeps positions, else not told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from convfold.cost.receptive.reach import Reach, identity
from convfold.geometry import Window

__all__ = ["Fields"]

Shape = tuple[int, ...]
# Every element depends on the whole map; on one position of it, which is no longer told apart; or not known.
_Known = tuple[Reach, ...] | Literal["whole", "mixed"] | None
_WINDOWED = frozenset({"Conv", "AveragePool", "MaxPool", "LpPool"})
_WHOLE = frozenset({"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "Gemm", "MatMul"})
_MIXING = frozenset({"Flatten", "Reshape"})
_NORMS = frozenset({"InstanceNormalization", "GroupNormalization", "MeanVarianceNormalization"})


class Fields:
    """What each tensor depends on of the first input that is a map, called `source`, of `sizes` behind its channels."""

    def __init__(self, source: str, sizes: Shape) -> None:
        self._sizes = sizes
        self._known: dict[str, _Known] = {source: tuple(identity(2 + axis) for axis in range(len(sizes)))}

    def see(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        shapes: tuple[Sequence[Shape | None], Sequence[Shape | None]],
        window: Window | None,
    ) -> None:
        """Follow one node: `shapes` of the tensors that it reads and gives, constants left out."""
        given = [self._known[name] for name in inputs if name in self._known]
        if given:
            found = self._found(kind, given, shapes, window)
            self._known |= dict.fromkeys(outputs, found)

    def sizes(self, names: Sequence[str]) -> Shape:
        """Positions along each axis that the last of these depends on; () where that is not told."""
        for name in reversed(names):
            known = self._known.get(name)
            if known == "whole":
                return self._sizes
            if isinstance(known, tuple):
                return tuple(reach.size for reach in known)
        return ()

    def _found(
        self,
        kind: str,
        given: list[_Known],
        shapes: tuple[Sequence[Shape | None], Sequence[Shape | None]],
        window: Window | None,
    ) -> _Known:
        if None in given:
            return None
        if "whole" in given:
            return "whole"
        if kind in _WHOLE:
            return "whole"
        if "mixed" in given:
            return "mixed"
        first = given[0]
        assert isinstance(first, tuple)
        if kind in _WINDOWED:
            return None if window is None else _slid(first, window)
        if kind in _NORMS:
            return "whole"
        return self._kept(kind, given, shapes)

    def _kept(
        self, kind: str, given: list[_Known], shapes: tuple[Sequence[Shape | None], Sequence[Shape | None]]
    ) -> _Known:
        read, out = (next((shape for shape in side if shape is not None), None) for side in shapes)
        if read is None or out is None:
            return None
        if len(read) == len(out) and read[2:] == out[2:] and kind != "Transpose":
            return _joined([reaches for reaches in given if isinstance(reaches, tuple)])
        if kind in _MIXING:
            return "mixed"
        means = kind.startswith("Reduce") and all(size == 1 for size in out[2:])
        return "whole" if means else None


def _slid(reaches: tuple[Reach, ...], window: Window) -> tuple[Reach, ...]:
    return tuple(
        reach.window(2 + at, axis.stride, [axis.dilation * tap - axis.lo for tap in range(axis.kernel)])
        for at, (reach, axis) in enumerate(zip(reaches, window, strict=True))
    )


def _joined(given: list[tuple[Reach, ...]]) -> _Known:
    found = given[0]
    for other in given[1:]:
        both = [one.join(two) for one, two in zip(found, other, strict=True)]
        if any(reach is None for reach in both):
            return "whole"
        found = tuple(reach for reach in both if reach is not None)
    return found
