"""Pictures to learn enlarging from: which there are, how they are parted, what is not taken."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from convfold.errors import FileProblem, InvalidArgument
from convfold.train.sr import CREDITS, Picture, bundled, from_folder
from convfold.train.sr.bundled import Credit, _read
from convfold.train.sr.colour import joined, parted
from sr.photographs import folder, picture, save


def test_bundled_photographs_are_whole_and_each_in_one_part() -> None:
    found = bundled()
    parts = (found.train, found.validate, found.test)
    names = [picture.name for part in parts for picture in part]
    assert names == [credit.name for credit in CREDITS]
    assert [len(part) for part in parts] == [7, 1, 3]
    for one in (p for part in parts for p in part):
        assert one.tensor.shape[0] == 1
        assert min(one.tensor.shape[1:]) >= 300
        assert one.tensor.dtype is torch.float32
        assert 0 <= one.tensor.min() < one.tensor.max() <= 1
    assert all(credit.credit for credit in CREDITS)


def test_the_page_credits_every_photograph() -> None:
    page = (Path(__file__).parents[2] / "docs" / "super-resolution.md").read_text()
    packages = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
    parts = {"train": "train", "validate": "decides the learning rate", "test": "held out"}
    for one in CREDITS:
        assert f"| {one.name} | {packages[one.package]} | {parts[one.part]} | {one.credit} |" in page


def test_in_colour_there_are_those_that_have_colours() -> None:
    found = bundled(3)
    assert [p.name for p in found.test] == ["chelsea", "flower"]
    # Luminance is that of the colours.
    grey = next(p for p in bundled().test if p.name == "chelsea").tensor
    torch.testing.assert_close(parted(found.test[0].tensor)[0], grey, rtol=0, atol=1e-6)
    assert (found.test[0].tensor[0] - found.test[0].tensor[2]).abs().max() > 0.2
    with pytest.raises(InvalidArgument, match=r"channels: a picture has 1 channel .* got 2, expected 1 or 3"):
        bundled(2)


def test_a_package_without_its_photographs_is_named() -> None:
    with pytest.raises(FileProblem, match="the photographs inside nowhere are not here: it is not installed"):
        _read(Credit("nowhere", "data/cat.png", "test", ""), 1)
    with pytest.raises(FileProblem, match=r"data/gone.png: this version of skimage has no such photograph inside"):
        _read(Credit("skimage", "data/gone.png", "test", ""), 1)


def test_luminance_and_colour_differences_are_all_of_a_picture() -> None:
    shown = torch.rand(3, 5, 7, dtype=torch.float64)
    y, differences = parted(shown)
    torch.testing.assert_close(joined(y, differences), shown, rtol=0, atol=1e-15)
    grey = torch.rand(1, 5, 7).expand(3, -1, -1)
    assert parted(grey)[1].abs().max() < 1e-6


def test_a_folder_is_parted_by_picture(tmp_path: Path) -> None:
    found = from_folder(folder(tmp_path / "many", 10))
    assert [[p.name for p in part] for part in (found.train, found.validate, found.test)] == [
        [f"{n}.png" for n in range(6)], ["6.png", "7.png"], ["8.png", "9.png"],
    ]  # fmt: skip
    assert found.skipped == ()


def test_few_pictures_are_parted_by_columns(tmp_path: Path) -> None:
    folder(tmp_path / "few", 2)
    found = from_folder(tmp_path / "few", channels=3)
    whole = [Image.open(tmp_path / "few" / f"{n}.png") for n in range(2)]
    for number, image in enumerate(whole):
        columns = [part[number].tensor for part in (found.train, found.validate, found.test)]
        assert [c.shape[-1] for c in columns] == [28, 10, 10]
        put = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(40, 48, 3)
        torch.testing.assert_close(torch.cat(columns, -1), put.permute(2, 0, 1) / 255)


def test_what_cannot_be_used_is_fatal_or_skipped_and_named(tmp_path: Path) -> None:
    place = folder(tmp_path / "mixed", 6)
    (place / "a.png").write_bytes(b"no picture")
    whole = (place / "0.png").read_bytes()
    (place / "b.png").write_bytes(whole[: len(whole) // 2])
    save(place / "c.png", picture("c", 8, 50))
    with pytest.raises(FileProblem, match=r"a\.png: this is no picture that can be read"):
        from_folder(place)
    found = from_folder(place, bad_pictures="skip", least=16)
    assert sum(map(len, (found.train, found.validate, found.test))) == 6
    names = [sentence.split(": ")[0].rpartition("/")[2] for sentence in found.skipped]
    assert names == ["a.png", "b.png", "c.png"]
    assert "smaller than a patch: got 8x50, expected at least 16x16 pixels" in found.skipped[2]
    for file in place.glob("[0-9].png"):
        file.unlink()
    with pytest.raises(FileProblem, match="none of its 3 pictures can be used, first "):
        from_folder(place, bad_pictures="skip", least=16)


def test_a_folder_without_pictures_is_no_folder_of_pictures(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="there is no such folder of pictures"):
        from_folder(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FileProblem, match=r"there is no picture in it: expected files of .*\.png"):
        from_folder(tmp_path)
    with pytest.raises(InvalidArgument, match="--bad-pictures: this is no choice: got 'drop', expected fail or skip"):
        from_folder(tmp_path, bad_pictures="drop")


def test_names_tell_pictures_apart() -> None:
    assert not torch.equal(picture("a").tensor, picture("b").tensor)
    assert isinstance(picture("a"), Picture)
