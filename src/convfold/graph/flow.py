"""Which value goes from which module to which: the facts that pairing a convolution with its norm rests on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

__all__ = ["Call", "Flow"]


@dataclass(frozen=True)
class Call:
    """One call of a module: the values it read and gave, and the shape of the first input, if it was seen."""

    path: str
    inputs: tuple[int, ...]
    output: int
    shape: tuple[int, ...] | None = None


@dataclass
class Flow:
    """The calls of a model's linear modules, and every use of each value.

    A use is the number of a call, or the name of something else that read the value. What was not seen is never
    paired. `exposed` are the modules whose own parameters or buffers something else read, `watched` those
    containers whose inputs and outputs a hook sees.
    """

    calls: list[Call] = field(default_factory=list)
    uses: dict[int, list[int | str]] = field(default_factory=lambda: defaultdict(list))
    how: str = "nothing"
    exposed: set[str] = field(default_factory=set)
    watched: set[str] = field(default_factory=set)

    def of(self, path: str) -> list[Call]:
        """The calls of the module at `path`."""
        return [call for call in self.calls if call.path == path]

    def reader(self, path: str) -> str | None:
        """The one module that reads everything `path` gives, reads nothing else, and is read in full.

        None when a value of `path` also goes elsewhere (another module, an operator, the model's output),
        when a hook watches the border between the two, or when the reader has other sources: then neither may
        change on behalf of the other.
        """
        calls = self.of(path)
        readers: set[str] = set()
        for call in calls:
            users = self.uses.get(call.output, [])
            if len(set(users)) != 1 or isinstance(users[0], str):
                return None
            readers.add(self.calls[users[0]].path)
        if len(readers) != 1:
            return None
        reader = readers.pop()
        if any(path.startswith(f"{outer}.") != reader.startswith(f"{outer}.") for outer in self.watched):
            return None
        given = {call.output for call in calls}
        sources = {value for call in self.of(reader) for value in call.inputs}
        return reader if reader != path and sources == given else None
