"""Where a node of the graph comes from: the line of the user's source."""

from __future__ import annotations

import os
import re
import sysconfig
import traceback

from torch import fx

from convfold.graph.capture.export import own_frame

__all__ = ["line_of"]

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_ROOTS = tuple(sysconfig.get_paths()[name] + os.sep for name in ("purelib", "platlib"))


def line_of(node: fx.Node) -> str:
    """``file.py:123``, the last line outside torch that led to the node; packages by their path inside."""
    frames = [
        traceback.FrameSummary(name, int(line), "", lookup_line=False)
        for name, line in _FRAME.findall(node.meta.get("stack_trace") or "")
    ]
    place = own_frame(frames)
    for root in (*_ROOTS, os.getcwd() + os.sep):
        place = place.removeprefix(root)
    return place
