"""What a call of a study asks for, held against what there is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from importlib.util import find_spec

from convfold.errors import ConvfoldError, InvalidArgument, UnknownName

__all__ = ["check_counts", "check_known", "check_packages", "missing_packages"]


def missing_packages(packages: Iterable[str]) -> list[str]:
    """Those of `packages` that are not installed."""
    return [name for name in packages if find_spec(name) is None]


def check_packages(where: str, packages: Iterable[str], extras: str) -> None:
    """Raises ConvfoldError where one of `packages` is not installed: `extras` of convfold bring them."""
    if missing := missing_packages(packages):
        raise ConvfoldError(
            "packages are missing",
            where=where,
            got=f"no {', '.join(missing)}",
            hint=f"pip install 'convfold[{extras}]' brings them.",
        )


def check_counts(**options: int | None) -> None:
    """Raises InvalidArgument for an option, named as in Python, that is given and below one."""
    for name, number in options.items():
        if number is not None and number < 1:
            raise InvalidArgument("it takes at least one", where=f"--{name}", got=number, expected="1 or more")


def check_known(
    kind: str, option: str, names: Iterable[str], known: Sequence[str], near: Sequence[str] | None = None
) -> None:
    """Raises UnknownName for the first of `names` that is not `known`, with the nearest of `near`, or of `known`."""
    for name in names:
        if name not in known:
            found = difflib.get_close_matches(name, known if near is None else near, n=3, cutoff=0.4) or known
            raise UnknownName(
                f"unknown {kind}",
                where=option,
                got=repr(name),
                expected=f"names from {', '.join(known)}",
                hint=f"Did you mean {' or '.join(found)}?",
            )
