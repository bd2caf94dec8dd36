"""Targets: what a piece of hardware lacks, as rules in order; named ones are small files."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from convfold.errors import FileProblem, InvalidArgument, InvalidType, UnknownName
from convfold.transform.lower.rules import RULES, Rule
from convfold.transform.lower.seen import Seen

__all__ = ["Target", "find_target", "targets"]

_FOLDER = Path(__file__).with_name("targets")
_KEYS = {"about", "number", "rule"}


@dataclass(frozen=True)
class Target:
    """Rules in order: an operator is rewritten by the first one that it breaks, and what that gives in turn.

    `number` names the parameter that stands at the end of the target's name, where one does ("max-kernel-3").
    """

    name: str
    rules: tuple[Rule, ...]
    about: str = ""
    number: str = ""

    def __post_init__(self) -> None:
        if not self.rules or not all(isinstance(rule, Rule) for rule in self.rules):
            raise InvalidArgument(
                "a target holds rules",
                where=self.name,
                got=repr(self.rules),
                expected="a tuple of convfold.transform.lower rules, one at least",
            )

    def broken(self, seen: Seen) -> Rule | None:
        """The first rule that this operator breaks."""
        return next((rule for rule in self.rules if rule.breaks(seen)), None)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Target:
        """Read a TOML file: ``[[rule]]`` tables with a `name` and the rule's parameters, and perhaps `about`.

        Raises FileProblem when it cannot be read, InvalidArgument for other keys and impossible parameters,
        UnknownName for a rule that does not exist.
        """
        try:
            read = tomllib.loads(Path(path).read_text())
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise FileProblem(f"this is no target ({error})", where=str(path), expected="a TOML file") from error
        if unknown := set(read) - _KEYS:
            raise InvalidArgument(
                "a target has other keys",
                where=str(path),
                got=", ".join(sorted(unknown)),
                expected=f"any of {', '.join(sorted(_KEYS))}",
            )
        about, number, tables = read.get("about", ""), read.get("number", ""), read.get("rule", [])
        if not isinstance(about, str) or not isinstance(number, str):
            raise InvalidArgument(
                "about and number of a target are texts", where=str(path), got=f"{about!r}, {number!r}"
            )
        if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
            raise InvalidArgument("a target holds [[rule]] tables", where=str(path), expected="one at least")
        rules = tuple(_rule(dict(table), f"{path}, rule {n}") for n, table in enumerate(tables, start=1))
        return cls(Path(path).stem, rules, about, number)


def _rule(table: dict[str, Any], where: str) -> Rule:
    name = table.pop("name", None)
    if name not in RULES:
        near = difflib.get_close_matches(str(name), RULES, 3, 0.4)
        raise UnknownName(
            "no rule of this name",
            where=where,
            got=repr(name),
            expected=f"one of {', '.join(RULES)}",
            hint=f"Did you mean {' or '.join(near)}?" if near else "",
        )
    known = {f.name: f.type for f in fields(RULES[name])}  # type: ignore[arg-type]
    for key, value in table.items():
        if key not in known:
            raise InvalidArgument(
                f"the rule {name} has no parameter of this name",
                where=where,
                got=key,
                expected=f"any of {', '.join(known)}" if known else "none",
            )
        if type(value).__name__ != known[key]:
            raise InvalidArgument(f"{key} is of the wrong type", where=where, got=repr(value), expected=known[key])
    try:
        return RULES[name](**table)
    except InvalidArgument as error:
        raise InvalidArgument(str(error).rstrip("."), where=where) from error


def targets() -> list[str]:
    """The names of the targets that come with convfold; a number at the end of a name may be another one."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def find_target(target: str | os.PathLike[str] | Target) -> Target:
    """The target itself, the one in that ``.toml`` file, or the one of that name.

    Raises UnknownName with the nearest names, InvalidType for something else, and what `Target.load` raises.
    """
    if isinstance(target, Target):
        return target
    if not isinstance(target, (str, os.PathLike)):
        raise InvalidType(
            "this is no target", got=type(target).__name__, expected="a name, the path of a .toml file, or a Target"
        )
    name = os.fspath(target)
    if name.lower().endswith(".toml"):
        return Target.load(name)
    if name in targets():
        return Target.load(_FOLDER / f"{name}.toml")
    stem, digits = (found[1], found[2]) if (found := re.fullmatch(r"(.+-)(\d{1,9})", name)) else (name, "")
    for known in targets():
        if digits and re.fullmatch(rf"{re.escape(stem)}\d+", known):
            return _numbered(Target.load(_FOLDER / f"{known}.toml"), name, int(digits))
    near = difflib.get_close_matches(name, targets(), 3, 0.4)
    raise UnknownName(
        "unknown target",
        got=repr(name),
        expected=f"one of {', '.join(targets())}, or a .toml file",
        hint=f"Did you mean {' or '.join(near)}?" if near else "",
    )


def _numbered(target: Target, name: str, number: int) -> Target:
    """The target with another number in every rule that has the parameter."""
    if not target.number:
        raise UnknownName("unknown target", got=repr(name), hint=f"Did you mean {target.name}?")
    rules = tuple(
        replace(rule, **{target.number: number}) if hasattr(rule, target.number) else rule  # type: ignore[type-var]
        for rule in target.rules
    )
    return replace(target, name=name, rules=rules)
