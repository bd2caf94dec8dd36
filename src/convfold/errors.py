"""Every error of convfold: one base class, one way to build the sentence.

A sentence says where, what was got, what was expected and what to do, in that order, so that a person
who reads only the last line of a log knows the next step.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = [
    "ConvfoldError",
    "ConvfoldWarning",
    "FileProblem",
    "InvalidArgument",
    "InvalidType",
    "NotEqual",
    "NotFoldable",
    "Refusal",
    "UnknownName",
]


def _sentence(what: str, where: str, got: object, expected: object, hint: str) -> str:
    text = f"{where}: {what}" if where else what
    if got != "":
        text += f": got {got}"
        if expected != "":
            text += f", expected {expected}"
    elif expected != "":
        text += f": expected {expected}"
    return f"{text}. {hint}" if hint else f"{text}."


class ConvfoldError(Exception):
    """Base of every error raised by convfold.

    Parameters: `what` is wrong, `where` (a module path or an argument), what was `got`, what was
    `expected`, and as a `hint` what to do about it.
    """

    def __init__(self, what: str, *, where: str = "", got: object = "", expected: object = "", hint: str = "") -> None:
        super().__init__(_sentence(what, where, got, expected, hint))


class InvalidArgument(ConvfoldError, ValueError):
    """An argument has an impossible value."""


class InvalidType(ConvfoldError, TypeError):
    """An argument is of the wrong type."""


class UnknownName(InvalidArgument):
    """A name (of a block, a model, a verb) that does not exist; the nearest ones are offered."""


class NotEqual(ConvfoldError, RuntimeError):
    """Two things that must compute the same function do not."""


class FileProblem(ConvfoldError, RuntimeError):
    """A file or a folder cannot be read or written."""


class ConvfoldWarning(UserWarning):
    """Something was left alone that the user may have meant to be changed."""


@dataclass(frozen=True)
class Refusal:
    """A rewriting that was not done, as a value: which operator, where, why, and the way out."""

    operator: str
    reason: str
    place: str = ""
    hint: str = ""

    def at(self, place: str) -> Refusal:
        """The same refusal, found at `place`."""
        return Refusal(self.operator, self.reason, place, self.hint)

    def to_dict(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        return _sentence(f"{self.operator} is not folded: {self.reason}", self.place, "", "", self.hint)


class NotFoldable(ConvfoldError, RuntimeError):
    """No law turns this expression into one operator; `refusal` holds the reason."""

    def __init__(self, refusal: Refusal) -> None:
        Exception.__init__(self, str(refusal))
        self.refusal = refusal

    def __reduce__(self) -> tuple[type[NotFoldable], tuple[Refusal]]:
        return NotFoldable, (self.refusal,)
