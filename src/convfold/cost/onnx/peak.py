"""The most bytes that a file's tensors take at once, when each is let go of after the last node that reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["Peak"]


class Peak:
    """Nodes are seen in the file's order. A view keeps the tensor that it is of; inputs and constants do not count.

    `last`: by the name of a tensor, the number of the last node that reads it; outputs of the graph are not in it.
    """

    def __init__(self, last: Mapping[str, int]) -> None:
        self.most = 0
        self._last = last
        self._now = 0
        self._owner: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._names: dict[str, set[str]] = {}

    def see(self, number: int, inputs: Iterable[str], made: Mapping[str, int], view_of: str | None) -> None:
        """Node `number` read `inputs` and made tensors of so many bytes; as a view it makes names of another one."""
        for name, size in made.items():
            owner = name if view_of is None else self._owner.get(view_of, "")
            self._owner[name] = owner
            self._names.setdefault(owner, set()).add(name)
            if view_of is None:
                self._sizes[name] = size
                self._now += size
        self.most = max(self.most, self._now)
        for name in {*inputs, *made}:
            # What nothing reads is let go of at once, unless it is an output.
            if self._last.get(name, -1) == number:
                self._drop(name)

    def _drop(self, name: str) -> None:
        owner = self._owner.get(name)
        if owner is None:
            return
        names = self._names[owner]
        names.discard(name)
        if not names:
            self._now -= self._sizes.pop(owner, 0)
