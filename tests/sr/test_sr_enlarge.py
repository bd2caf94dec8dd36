"""Folded networks as ONNX files: any height and width, tiles without a seam, and files that are something else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from convfold.errors import FileProblem, InvalidArgument, NotEqual
from convfold.train.sr import enlarge, onnx_file, sr_network
from convfold.train.sr.enlarge import Enlarger, tiles
from convfold.train.sr.onnx_file import save_sr_onnx
from sr.networks import folded, other_file


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "twice.onnx"
    save_sr_onnx(folded(2), path, {"arm": "doconv"})
    return path


def test_a_file_enlarges_any_size_and_keeps_its_notes(twice: Path) -> None:
    enlarger = Enlarger(twice)
    assert (enlarger.scale, enlarger.reach) == (2, 3)
    assert enlarger.notes == {"arm": "doconv", "reach": 3, "scale": 2}
    model = folded(2)
    for shape in ((1, 1, 5, 40), (3, 1, 33, 2)):
        small = torch.rand(shape)
        torch.testing.assert_close(enlarger.run(small), model(small), rtol=0, atol=1e-5)


@pytest.mark.parametrize("tile", [7, 16, 50])
def test_tiles_give_the_very_same_picture(twice: Path, tile: int) -> None:
    enlarger, small = Enlarger(twice), torch.rand(1, 1, 61, 83)
    assert torch.equal(enlarger(small, tile), enlarger.run(small))


def test_an_overlap_below_the_reach_leaves_seams(twice: Path) -> None:
    enlarger, small = Enlarger(twice), torch.rand(1, 1, 40, 40)
    assert enlarger.reach is not None
    enlarger.reach -= 1
    assert not torch.equal(enlarger(small, 16), enlarger.run(small))


def test_tiles_cover_an_axis_once() -> None:
    cuts = list(tiles(23, 5, 3))
    assert [pixel for start, end, _, _ in cuts for pixel in range(start, end)] == list(range(23))
    assert cuts[0] == (0, 5, 0, 8)
    assert cuts[2] == (10, 15, 7, 18)
    assert cuts[-1] == (20, 23, 17, 23)
    with pytest.raises(InvalidArgument, match="tile: a tile has pixels: got 0, expected 1 or more"):
        list(tiles(23, 0, 3))


def test_a_file_that_computes_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Enlarger.run
    monkeypatch.setattr(onnx_file.Enlarger, "run", lambda self, small: run(self, small) * 1.01)
    with pytest.raises(NotEqual, match="does not compute what the folded model does; it was not kept"):
        save_sr_onnx(folded(1), tmp_path / "once.onnx", {})
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_such_network(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    with pytest.raises(FileProblem, match=r"there is no such file. convfold train sr writes such networks"):
        Enlarger(path)
    path.write_bytes(b"not onnx")
    with pytest.raises(FileProblem, match="ONNX Runtime does not read it"):
        Enlarger(path)
    free = ["n", 1, "h", "w"]
    add = [helper.make_node("Add", ["x", "z"], ["y"])]
    cases = [
        ({"nodes": add, "inputs": [("x", free), ("z", free)]}, "got 2 inputs and 1 outputs, expected one of each"),
        ({"inputs": [("x", ["n", 3, "h", "w"])]}, r"got an input tensor\(float\) of \['n', 3, 'h', 'w'\]"),
        ({"inputs": [("x", ["n", 1, 24, 24])]}, "with free height and width"),
        ({"inputs": [("x", ["n", 1])]}, r"of \['n', 1\], expected float32 of \(N, 1, H, W\)"),
        (
            {"nodes": [helper.make_node("GlobalAveragePool", ["x"], ["y"])]},
            r"got an output of \[1, 1, 1, 1\] for 1x1x9x12",
        ),
        ({"notes": "{"}, "got notes that are no JSON"),
        ({"notes": '{"scale": "two"}'}, "expected whole numbers for scale and reach"),
        ({"notes": '{"reach": -1}'}, "expected whole numbers for scale and reach"),
        ({"notes": "[]"}, "expected whole numbers for scale and reach"),
        ({"notes": '{"scale": 2}'}, "got scale 1 where its notes say 2, expected one scale"),
    ]
    for given, sentence in cases:
        with pytest.raises(FileProblem, match=f"this network does not enlarge luminance: .*{sentence}"):
            Enlarger(other_file(path, **given))
    reshape = [helper.make_node("Reshape", ["x", "size"], ["y"])]
    size = numpy_helper.from_array(np.array([1, 1, 8, 8]), "size")
    with pytest.raises(FileProblem, match="got an error on a picture of 9x12"):
        Enlarger(other_file(path, nodes=reshape, constants=[size]))


def test_without_a_known_reach_there_are_no_tiles(tmp_path: Path) -> None:
    enlarger = Enlarger(other_file(tmp_path / "plain.onnx"))
    small = torch.rand(1, 1, 20, 20)
    assert (enlarger.scale, enlarger.reach) == (1, None)
    assert torch.equal(enlarger(small, 20), small)
    with pytest.raises(InvalidArgument, match="does not say how far a pixel reaches, so it cannot be run in tiles"):
        enlarger(small, 16)


def test_opening_a_file_draws_nothing_at_random(twice: Path) -> None:
    before = torch.get_rng_state()
    Enlarger(twice)
    assert torch.equal(torch.get_rng_state(), before)


def test_only_networks_of_this_package_are_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="this is no folded network of convfold train sr: got Sequential"):
        save_sr_onnx(nn.Sequential(nn.Conv2d(1, 1, 3)), tmp_path / "x.onnx", {})
    with pytest.raises(InvalidArgument, match="channels: convfold upscale runs networks of luminance: got 3, expected"):
        save_sr_onnx(sr_network(2, 3, 4, 2), tmp_path / "x.onnx", {})
    assert list(tmp_path.iterdir()) == []
    assert enlarge.NOTES == "convfold.sr"
