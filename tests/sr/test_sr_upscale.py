"""``convfold upscale``: luminance by the network, colours and transparency by a cubic; bad input as sentences."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from convfold.cli import run
from convfold.cli import upscale as command
from convfold.errors import FileProblem
from convfold.train.sr import Bicubic
from convfold.train.sr.colour import parted
from convfold.train.sr.onnx_file import save_sr_onnx
from convfold.train.sr.upscale import Opened, open_picture, save_picture
from sr.networks import folded, other_file
from sr.photographs import picture, save

WIDTH, HEIGHT = 48, 40


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "twice.onnx"
    save_sr_onnx(folded(2), path, {})
    return path


def values(path: Path) -> torch.Tensor:
    image = Image.open(path)
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.reshape(image.height, image.width, -1).permute(2, 0, 1) / 255


def upscale(*arguments: object) -> int:
    return run(["upscale", *map(str, arguments)])


def test_luminance_is_the_networks_and_colours_are_a_cubics(tmp_path: Path, twice: Path) -> None:
    source = save(tmp_path / "cat.png", picture("cat", HEIGHT, WIDTH, 3))
    assert upscale(source, "--model", twice) == 0
    found = values(tmp_path / "cat-x2.png")
    y, differences = parted(values(source))
    model = folded(2)
    large = model(y[None])[0].clamp(0, 1)
    inside = (found > 0.01).all(0) & (found < 0.99).all(0)  # where no channel was cut off
    assert inside.float().mean() > 0.5
    y_found, differences_found = parted(found)
    torch.testing.assert_close(y_found[0][inside], large[0][inside], rtol=0, atol=0.51 / 255)
    expected = Bicubic(2)(differences[None])[0]
    torch.testing.assert_close(differences_found[:, inside], expected[:, inside], rtol=0, atol=1.01 / 255)


def test_tiles_give_the_same_file(tmp_path: Path, twice: Path) -> None:
    source = save(tmp_path / "cat.png", picture("cat", HEIGHT, WIDTH, 3))
    assert upscale(source, "--model", twice, "-o", tmp_path / "whole.png") == 0
    assert upscale(source, "--model", twice, "-o", tmp_path / "tiles.png", "--tile", 9) == 0
    assert (tmp_path / "whole.png").read_bytes() == (tmp_path / "tiles.png").read_bytes()
    assert Image.open(tmp_path / "whole.png").size == (2 * WIDTH, 2 * HEIGHT)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (4, "RGBA")])
def test_grey_stays_grey_and_alpha_is_kept(tmp_path: Path, twice: Path, channels: int, mode: str) -> None:
    source = save(tmp_path / "logo.png", picture("logo", HEIGHT, WIDTH, channels))
    assert upscale(source, "--model", twice) == 0
    found = tmp_path / "logo-x2.png"
    assert Image.open(found).mode == mode
    if channels > 1:
        alpha = Bicubic(2)(values(source)[None, -1:]).clamp(0, 1)[0, 0]
        torch.testing.assert_close(values(found)[-1], alpha, rtol=0, atol=0.51 / 255)


def test_a_profile_is_kept(tmp_path: Path, twice: Path) -> None:
    save(tmp_path / "plain.png", picture("p", HEIGHT, WIDTH, 3))
    Image.open(tmp_path / "plain.png").save(tmp_path / "wide.png", icc_profile=b"profile")
    assert upscale(tmp_path / "wide.png", "--model", twice, "--out", tmp_path / "large.png") == 0
    assert Image.open(tmp_path / "large.png").info["icc_profile"] == b"profile"


def test_the_profile_of_inks_is_not_said_to_be_that_of_colours(tmp_path: Path, twice: Path) -> None:
    Image.new("CMYK", (9, 7), (10, 200, 30, 5)).save(tmp_path / "print.jpg", icc_profile=b"inks")
    assert upscale(tmp_path / "print.jpg", "--model", twice) == 0
    found = Image.open(tmp_path / "print-x2.png")
    assert (found.mode, found.size) == ("RGB", (18, 14))
    assert "icc_profile" not in found.info


def test_a_turned_and_partly_transparent_picture_is_put_upright(tmp_path: Path, twice: Path) -> None:
    source = save(tmp_path / "plain.png", picture("logo", 6, 11, 4))
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter
    Image.open(source).save(tmp_path / "turned.png", exif=turned)
    Image.open(source).transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
    assert upscale(tmp_path / "turned.png", "--model", twice) == 0
    assert upscale(tmp_path / "upright.png", "--model", twice) == 0
    assert torch.equal(values(tmp_path / "turned-x2.png"), values(tmp_path / "upright-x2.png"))
    assert Image.open(tmp_path / "turned-x2.png").getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 5)])
def test_the_smallest_pictures_are_enlarged(tmp_path: Path, twice: Path, size: tuple[int, int]) -> None:
    source = save(tmp_path / "dot.png", picture("dot", *size, 3))
    assert upscale(source, "--model", twice, "--tile", 1) == 0
    assert Image.open(tmp_path / "dot-x2.png").size == (2 * size[1], 2 * size[0])


def test_sixteen_bits_are_read_as_shades_and_written_as_eight(tmp_path: Path, twice: Path) -> None:
    Image.new("I;16", (6, 4), 257 * 128).save(tmp_path / "deep.png")
    opened = open_picture(tmp_path / "deep.png")
    torch.testing.assert_close(opened.values, torch.full((1, 4, 6), 128 / 255))
    assert upscale(tmp_path / "deep.png", "--model", twice) == 0
    assert Image.open(tmp_path / "deep-x2.png").mode == "L"


def test_a_picture_larger_than_its_form_holds_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match=r"long.webp: this picture cannot be written so \(.*16383"):
        save_picture(Opened(torch.zeros(1, 1, 16384), None, None), tmp_path / "long.webp")
    assert list(tmp_path.iterdir()) == []


def test_an_explicit_tile_needs_a_known_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(tmp_path / "cat.png", picture("cat", HEIGHT, WIDTH))
    other = other_file(tmp_path / "other.onnx")
    assert upscale(source, "--model", other, "--tile", 16) == 2
    assert "does not say how far a pixel reaches, so it cannot be run in tiles" in said(capsys)
    assert upscale(source, "--model", other) == 0
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    assert upscale(source, "--model", other) == 2
    assert "convfold upscale: this needs PIL and onnxruntime, not installed. pip install 'convfold[" in said(capsys)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_bad_input_is_one_sentence_and_writes_nothing(
    tmp_path: Path, twice: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(tmp_path / "cat.png", picture("cat", HEIGHT, WIDTH, 4))
    cut = tmp_path / "cut.png"
    cut.write_bytes(source.read_bytes()[:300])
    other = other_file(tmp_path / "other.onnx", inputs=[("x", ["n", 3, "h", "w"])])
    there = save(tmp_path / "there.png", picture("x", 8, 8))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    cases = [
        ((source,), "--model: it takes a network, and convfold brings none: expected an .onnx file. convfold train sr"),
        ((tmp_path / "no.png", "--model", twice), "no.png: there is no such picture."),
        ((cut, "--model", twice), "cut.png: this is no picture that can be read"),
        ((source, "--model", tmp_path / "no.onnx"), "no.onnx: there is no such file. convfold train sr writes"),
        ((source, "--model", other), "other.onnx: this network does not enlarge luminance"),
        ((source, "--model", twice, "--scale", 3), "--scale: the network has another scale: got 3, expected 2."),
        ((source, "--model", twice, "-o", there), "there.png: there is a file already. --overwrite replaces it"),
        ((source, "--model", twice, "-o", source, "--overwrite"), "is read, and would be written over"),
        ((source, "--model", twice, "-o", tmp_path / "a.gif"), "a picture is not written in this form: got 'a.gif'"),
        (
            (source, "--model", twice, "-o", tmp_path / "a.jpg"),
            "which this form cannot hold: got '.jpg', expected .png",
        ),
        ((source, "--model", twice, "-o", tmp_path / "no" / "a.png"), "there is no such folder"),
        ((source, "--model", twice, "--tile", 0), "tile: a tile has pixels: got 0"),
    ]
    for arguments, sentence in cases:
        assert upscale(*arguments) == 2, sentence
        assert sentence in said(capsys)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert upscale(source, "--model", twice, "-o", there, "--overwrite") == 0
    assert Image.open(there).size == (2 * WIDTH, 2 * HEIGHT)
