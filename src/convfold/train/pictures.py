"""A folder of pictures as a data set: classes by folder, checked before anything is trained on."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from convfold.errors import FileProblem, InvalidArgument
from convfold.train.distributed import World
from convfold.train.images import Images, Part, file_mark
from convfold.train.picture_file import SUFFIXES, WHITE, decode, picture_files
from convfold.train.seeds import generator
from convfold.zoo.quiet import quiet

__all__ = ["folder_images"]

# In this order: where there are two, test/ may be one without labels, as ImageNet's.
_TESTS = ("val", "valid", "validation", "test")
# So many are named in a sentence; the count is of all.
_NAMED = 5
_THREADS = min(8, os.cpu_count() or 1)

Labelled = list[tuple[Path, int]]


@dataclass(frozen=True)
class _Seen:
    """What one picture turned out to be: height and width, whether it is grey, a mark of the file's content, or why it
    cannot be read."""

    size: tuple[int, int] = (0, 0)
    grey: bool = True
    mark: str = ""
    problem: str = ""


def folder_images(
    folder: Path,
    *,
    channels: int | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    skip: bool = False,
    world: World | None = None,
    on_picture: Callable[[int, int], None] | None = None,
) -> Images:
    """The pictures of ``folder/class/**``, or of ``folder/train`` and ``folder/val`` (else ``folder/test``) with such.

    Without a test part `test_fraction` of each class is held out, chosen by `split_seed` alone. Every picture is read
    once, each by one process of `world`; those that cannot be are left out with `skip`, and named.
    `on_picture(done, of)` is told of each that this process has read.

    Raises FileProblem for a folder without pictures or with files in place of classes, for pictures that cannot be
    read (without `skip`), for classes that differ between train and test or have no picture, for a train part without
    a test part, and where processes see different folders; InvalidArgument for one class alone, or for a class of too
    few pictures to be split.
    """
    world = world or World()
    parts = world.agree(lambda: _parts(folder))
    files = sorted({path for part in parts.values() for path, _ in part[1]})
    mark = world.agree(lambda: _mark(folder, files, test_fraction, split_seed))
    marks = world.gather(mark)
    world.agree(lambda: _same_everywhere(folder, marks))
    seen = _read_all(files, world, on_picture)
    bad = {path: found.problem for path, found in seen.items() if found.problem}
    world.agree(lambda: _complain(folder, bad, skip))
    good = [found for found in seen.values() if not found.problem]
    held = channels or (1 if all(found.grey for found in good) else 3)
    classes = parts["train"][0]
    kept = {name: [(p, label) for p, label in part if p not in bad] for name, (_, part) in parts.items()}
    world.agree(lambda: _check_classes(folder, classes, kept))
    if "test" not in kept:
        kept = _split(kept["train"], classes, test_fraction, split_seed)
    sizes = {found.size for found in good}
    return Images(
        folder.name or str(folder),
        classes,
        _part(kept["train"], held),
        _part(kept["test"], held),
        WHITE,
        sizes.pop() if len(sizes) == 1 else None,
        _digest(mark, [seen[path].mark for path in files]),
        left_out=tuple(str(path.relative_to(folder)) for path in bad),
    )


def _part(pairs: Labelled, channels: int) -> Part:
    labels = torch.tensor([label for _, label in pairs], dtype=torch.int64)
    return Part(labels, channels, files=tuple(path for path, _ in pairs))


def _parts(folder: Path) -> dict[str, tuple[tuple[str, ...], Labelled]]:
    """Classes and labelled files of each part."""
    if not folder.is_dir():
        raise FileProblem("there is no such folder of pictures", where=str(folder), expected="a folder, or digits")
    inside = {path.name: path for path in folder.iterdir() if path.is_dir()}
    test = next((inside[name] for name in _TESTS if name in inside), None)
    if "train" not in inside or (test is None and not _is_part(inside["train"])):
        return {"train": _classes(folder)}
    if test is None:
        raise FileProblem(
            "there is no test part beside train",
            where=str(folder),
            got=_some(sorted(name for name in inside if name != "train")) or "train alone",
            expected=", ".join(_TESTS),
            hint=f"Name it so, or give {inside['train']} to hold out a part of that.",
        )
    (train_names, train), (test_names, tested) = _classes(inside["train"]), _classes(test)
    if train_names != test_names:
        only = {"train": set(train_names) - set(test_names), test.name: set(test_names) - set(train_names)}
        got = "; ".join(f"only in {name}: {_some(sorted(names))}" for name, names in only.items() if names)
        raise FileProblem("the classes of train and test differ", where=str(folder), got=got, expected="the same ones")
    return {"train": (train_names, train), "test": (test_names, tested)}


def _is_part(train: Path) -> bool:
    """Whether it holds classes and no pictures of its own: a class may itself be named train."""
    inside = [path for path in train.iterdir() if not path.name.startswith(".")]
    return any(path.is_dir() for path in inside) and not any(path.suffix.lower() in SUFFIXES for path in inside)


def _classes(folder: Path) -> tuple[tuple[str, ...], Labelled]:
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    files = {name: picture_files(folder / name) for name in names}
    loose = [path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in SUFFIXES]
    if loose and not any(files.values()):
        raise FileProblem(
            "the pictures are in no class",
            where=str(folder),
            got=f"{len(loose)} of them in the folder itself",
            expected="a folder for each class: class/name.png",
        )
    if not any(files.values()):
        raise FileProblem("there is no picture in it", where=str(folder), expected=", ".join(sorted(SUFFIXES)))
    if empty := [name for name in names if not files[name]]:
        raise FileProblem(
            "classes have no picture", where=str(folder), got=_some(empty), hint="Fill these folders or take them out."
        )
    if len(names) < 2:
        raise InvalidArgument("one class alone is nothing to tell apart", where=str(folder), got=names[0])
    return names, [(path, label) for label, name in enumerate(names) for path in files[name]]


def _mark(folder: Path, files: list[Path], test_fraction: float, split_seed: int) -> str:
    """What can be held against other processes before anything is read."""
    names = [(path.relative_to(folder).as_posix(), path.stat().st_size if path.exists() else 0) for path in files]
    return _digest(names, split_seed, test_fraction)


def _digest(*values: object) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:12]


def _same_everywhere(folder: Path, marks: list[str]) -> None:
    if other := [rank for rank, mark in enumerate(marks) if mark != marks[0]]:
        raise FileProblem(
            "the processes see different pictures",
            where=str(folder),
            got=f"process {other[0]} has other files than process 0",
            expected="the same folder on every machine",
        )


def _look(path: Path) -> _Seen:
    try:
        picture, mark = decode(path), file_mark(path)
    except (FileProblem, OSError) as error:
        return _Seen(problem=str(error))
    return _Seen((picture.height, picture.width), picture.mode == "L", mark)


def _read_all(files: list[Path], world: World, on_picture: Callable[[int, int], None] | None) -> dict[Path, _Seen]:
    """Each picture read once: its share by each process, in threads, since Pillow decodes outside of Python's lock."""
    mine = files[world.rank :: world.size]
    found: list[_Seen] = []
    with quiet(), ThreadPoolExecutor(max(_THREADS // world.size, 1)) as threads:
        for one in threads.map(_look, mine):
            found.append(one)
            if on_picture is not None:
                on_picture(len(found), len(mine))
    shares = world.gather(found)
    return {files[rank + world.size * i]: one for rank, share in enumerate(shares) for i, one in enumerate(share)}


def _complain(folder: Path, bad: dict[Path, str], skip: bool) -> None:
    if not bad or skip:
        return
    what, first = "picture" if len(bad) == 1 else "pictures", next(iter(bad.values())).rstrip(".")
    raise FileProblem(
        f"{len(bad)} {what} cannot be read ({first})",
        where=str(folder),
        got=_some([str(path.relative_to(folder)) for path in bad]),
        hint="Mend them, or leave them out with --bad-pictures skip.",
    )


def _check_classes(folder: Path, classes: Sequence[str], kept: dict[str, Labelled]) -> None:
    for name, pairs in kept.items():
        count = Counter(label for _, label in pairs)
        least = 1 if len(kept) > 1 else 2
        if small := [classes[label] for label in range(len(classes)) if count[label] < least]:
            raise InvalidArgument(
                f"classes have too few pictures that can be read in {name}",
                where=str(folder),
                got=_some(small),
                expected=f"{least} or more in each" + (", one of them to test on" if least == 2 else ""),
            )


def _split(pairs: Labelled, classes: Sequence[str], fraction: float, seed: int) -> dict[str, Labelled]:
    """The same share of each class held out, at least one picture and never all."""
    train: Labelled = []
    test: Labelled = []
    for label in range(len(classes)):
        own = [pair for pair in pairs if pair[1] == label]
        order = torch.randperm(len(own), generator=generator(seed, label)).tolist()
        held = min(max(round(fraction * len(own)), 1), len(own) - 1)
        test += [own[i] for i in sorted(order[:held])]
        train += [own[i] for i in sorted(order[held:])]
    return {"train": train, "test": test}


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
