"""Folders of pictures: classes, splits, and everything that can be wrong with them."""

from __future__ import annotations

import math
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from support.training import pictures

pytest.importorskip("PIL")

from PIL import Image, ImageOps

from convfold.errors import FileProblem, InvalidArgument
from convfold.train import World
from convfold.train.images import digit_images
from convfold.train.picture_file import pixels, read_picture
from convfold.train.pictures import folder_images


def test_classes_are_folders_and_each_is_split_in_the_same_share(tmp_path: Path) -> None:
    images = folder_images(pictures(tmp_path, ("b", "a"), 10), test_fraction=0.3)
    assert images.classes == ("a", "b")
    assert torch.bincount(images.train.labels).tolist() == [7, 7]
    assert torch.bincount(images.test.labels).tolist() == [3, 3]
    assert not set(images.train.files) & set(images.test.files)
    assert (images.channels, images.size) == (3, (12, 12))
    again = folder_images(tmp_path, test_fraction=0.3)
    assert (again.train.files, again.fingerprint) == (images.train.files, images.fingerprint)
    other = folder_images(tmp_path, test_fraction=0.3, split_seed=1)
    assert other.test.files != images.test.files
    assert other.fingerprint != images.fingerprint


@pytest.mark.parametrize("test", ["test", "val"])
def test_a_test_part_of_its_own_is_taken(tmp_path: Path, test: str) -> None:
    pictures(tmp_path / "train")
    pictures(tmp_path / test, count=2)
    images = folder_images(tmp_path)
    assert (len(images.train), len(images.test)) == (12, 4)
    assert all(test in path.parts for path in images.test.files)


def test_of_two_test_parts_the_one_for_validation_is_taken(tmp_path: Path) -> None:
    """The other one may have no labels, as ImageNet's."""
    pictures(tmp_path / "train")
    pictures(tmp_path / "val", count=2)
    pictures(tmp_path / "test" / "unlabelled", ("one",))
    assert all("val" in path.parts for path in folder_images(tmp_path).test.files)


def test_a_class_may_be_named_train(tmp_path: Path) -> None:
    assert folder_images(pictures(tmp_path, ("bus", "train"))).classes == ("bus", "train")


def test_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    picture = Image.new("RGB", (3, 2))
    picture.putpixel((2, 1), (10, 20, 30))
    picture.save(tmp_path / "a.png")
    found = pixels(read_picture(tmp_path / "a.png"))
    assert found.shape == (3, 2, 3)
    assert found[:, 1, 2].tolist() == [10, 20, 30]
    assert found.sum() == 60


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    Image.new("I;16", (2, 2), 32768).save(tmp_path / "a.png")
    assert set(pixels(read_picture(tmp_path / "a.png")).flatten().tolist()) <= {127, 128}


def test_a_photograph_held_upright_is_read_upright(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 2))
    exif = picture.getexif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert pixels(read_picture(tmp_path / "a.jpg")).shape == (3, 4, 2)


def test_grey_pictures_have_one_channel_unless_three_are_asked_for(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("L", (5, 4 + number), 7).save(tmp_path / name / f"{number}.png")
    images = folder_images(tmp_path)
    assert (images.channels, images.size) == (1, None)
    assert images.train.picture(0).shape[0] == 1
    assert folder_images(tmp_path, channels=3).train.picture(0).shape[0] == 3


def test_what_cannot_be_read_is_counted_and_named(tmp_path: Path) -> None:
    pictures(tmp_path, count=8)
    whole = (tmp_path / "cat" / "1.png").read_bytes()
    (tmp_path / "cat" / "1.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "dog" / "2.png").write_bytes(b"no picture")
    with pytest.raises(FileProblem, match=r"2 pictures cannot be read .*cat/1.png, dog/2.png.*--bad-pictures skip"):
        folder_images(tmp_path)
    images = folder_images(tmp_path, skip=True)
    assert images.left_out == ("cat/1.png", "dog/2.png")
    assert len(images.train) + len(images.test) == 14
    assert not {"cat/1.png"} & {str(p.relative_to(tmp_path)) for p in (*images.train.files, *images.test.files)}


def test_a_link_to_nothing_is_a_picture_that_cannot_be_read(tmp_path: Path) -> None:
    pictures(tmp_path, count=8)
    (tmp_path / "cat" / "link.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "dog" / "folder.png").mkdir()
    with pytest.raises(FileProblem, match=r"1 picture cannot be read .*got cat/link.png\. Mend them"):
        folder_images(tmp_path)
    assert folder_images(tmp_path, skip=True).left_out == ("cat/link.png",)


def test_other_pixels_in_files_of_the_same_size_are_another_data_set(tmp_path: Path) -> None:
    pictures(tmp_path)
    one, other = Image.new("RGB", (12, 12), 1), Image.new("RGB", (12, 12), 2)
    one.save(tmp_path / "cat" / "a.bmp")
    before = folder_images(tmp_path).fingerprint
    assert folder_images(tmp_path).fingerprint == before
    other.save(tmp_path / "cat" / "a.bmp")
    assert folder_images(tmp_path).fingerprint != before


def test_reading_in_threads_leaves_warnings_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that silence warnings and overlap would end in silence for everybody."""
    pictures(tmp_path, count=2)
    both, plain = threading.Barrier(2), ImageOps.exif_transpose
    order = iter((0.0, 0.2, 0.0, 0.2))

    def slowly(picture: Image.Image) -> Image.Image:
        both.wait(10)
        time.sleep(next(order))
        return plain(picture)

    monkeypatch.setattr(ImageOps, "exif_transpose", slowly)
    monkeypatch.setattr("convfold.train.pictures._THREADS", 2)
    before = list(warnings.filters)
    folder_images(tmp_path)
    assert list(warnings.filters) == before


def test_readers_beside_keep_no_pictures_that_nobody_asks_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = folder_images(pictures(tmp_path)).train
    with monkeypatch.context() as beside:
        beside.setattr("convfold.train.images.get_worker_info", lambda: object())
        first = part.picture(0)
    assert part.picture(0) is not first
    assert part.picture(0) is part.picture(0)


def test_a_picture_that_is_spoilt_later_has_a_sentence(tmp_path: Path) -> None:
    images = folder_images(pictures(tmp_path))
    images.train.files[0].write_bytes(b"spoilt")
    with pytest.raises(FileProblem, match="this is no picture that can be read"):
        images.train.picture(0)


def _emptied(folder: Path) -> Path:
    pictures(folder)
    for path in (folder / "cat").iterdir():
        path.unlink()
    return folder


def _loose(folder: Path) -> Path:
    pictures(folder, ("one",))
    for path in list((folder / "one").iterdir()):
        path.rename(folder / path.name)
    (folder / "one").rmdir()
    return folder


def _different(folder: Path) -> Path:
    pictures(folder / "train", ("a", "b", "c"))
    pictures(folder / "val", ("a", "b", "d"))
    return folder


def _untested(folder: Path) -> Path:
    pictures(folder / "train")
    pictures(folder / "checking")
    (folder / "train" / "README.txt").write_text("where they come from")
    return folder


def _spoilt(folder: Path) -> Path:
    pictures(folder)
    for path in (folder / "dog").iterdir():
        path.write_bytes(b"spoilt")
    return folder


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: folder / "nowhere", "there is no such folder of pictures"),
        (lambda folder: folder, "there is no picture in it"),
        (_loose, "the pictures are in no class: got 6 of them in the folder itself, expected a folder for each class"),
        (_emptied, "classes have no picture: got cat. Fill these folders or take them out"),
        (lambda folder: pictures(folder, ("one",)), "one class alone is nothing to tell apart: got one"),
        (
            lambda folder: pictures(folder, count=1),
            "classes have too few pictures that can be read in train: got cat, dog",
        ),
        (_spoilt, "classes have too few pictures that can be read in train: got dog"),
        (
            _untested,
            "there is no test part beside train: got checking, expected val, valid, .*Name it so, or give .*train to",
        ),
        (_different, "the classes of train and test differ: got only in train: c; only in val: d"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path: Path, make, sentence: str) -> None:
    with pytest.raises((FileProblem, InvalidArgument), match=sentence):
        folder_images(make(tmp_path), skip=True)


class Two(World):
    """Another process beside this one, that has other files."""

    def gather(self, value: Any) -> list[Any]:
        return [value, f"{value}!" if isinstance(value, str) else value]


def test_processes_that_see_different_pictures(tmp_path: Path) -> None:
    sentence = "the processes see different pictures: got process 1 has other files than process 0"
    with pytest.raises(FileProblem, match=sentence):
        folder_images(pictures(tmp_path), world=Two())


def test_hidden_files_are_no_pictures(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cat" / "._0.png").write_bytes(b"what a Mac leaves behind")
    assert len(folder_images(tmp_path).train.files) + len(folder_images(tmp_path).test.files) == 12


def test_the_digits_are_those_of_the_plain_loop() -> None:
    pytest.importorskip("sklearn")
    from convfold.train import digits

    images, data = digit_images(), digits()
    mean, std = images.scaling(((0.0,), (1.0,)))
    shown = (images.train.stored / images.white - mean) / std
    assert torch.allclose(shown, data.train_x, atol=1e-6)
    assert torch.equal(images.test.labels, data.test_y)
    with pytest.raises(
        InvalidArgument, match=r"test_fraction: the test part must be a true part: got 1\.0, expected 0 <"
    ):
        digits(0, 1.0)
    assert math.isclose(float(shown.std()), 1, abs_tol=1e-3)
