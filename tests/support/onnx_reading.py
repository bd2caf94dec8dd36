"""Writing a file to be read, and the sentence that reading it ends in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from convfold.errors import ConvfoldError
from convfold.graph.onnx.read import read
from support.onnx_seeds import external_data

__all__ = ["sentence", "written"]


def written(folder: Path, proto: onnx.ModelProto | bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    (folder / "w.bin").write_bytes(external_data())
    return path


def sentence(path: Any, kind: type[ConvfoldError]) -> str:
    with pytest.raises(kind) as raised:
        read(path)
    text = str(raised.value)
    assert "\n" not in text
    assert len(text) < 700
    assert str(path) in text
    return text
