"""What a comparison rests on: what a new definition reads, and the values of the original that are drawn at random."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from convfold.plan.whole import Programs

__all__ = ["behind", "between", "grounds"]

# How many steps above what a definition reads the original's values may have to start.
_ABOVE = 4


def behind(change: Programs, value: int) -> tuple[list[int], list[int]]:
    """The new values that the definition of `value` needs, sources first, itself last; the original ones they read."""
    count = len(change.before.values)
    inside: dict[int, None] = {}
    roots: set[int] = set()
    stack = [(value, False)]
    while stack:
        current, done = stack.pop()
        if done:
            inside[current] = None
        elif current != value and current < count:
            roots.add(current)
        elif current not in inside:
            stack.append((current, True))
            stack += [(source, False) for source in change.after.nodes[current].inputs]
    return list(inside), sorted(roots)


def between(change: Programs, value: int, ground: Iterable[int]) -> list[int]:
    """The original values from `ground` to `value`, in order."""
    found, stack, ends = set[int](), [value], set(ground)
    while stack:
        current = stack.pop()
        if current not in found and current not in ends and current in change.before.nodes:
            found.add(current)
            stack += change.before.nodes[current].inputs
    return sorted(found)


def grounds(change: Programs, value: int, roots: list[int]) -> Iterator[tuple[list[int], bool]]:
    """Sets of values that `value` and the `roots` of its new definition are computed from, near ones first.

    The nearest are the roots themselves, and what the original reads beside them; each set comes with whether
    nothing is beside. What is beside is drawn apart from the rest, and a definition that rests on how they belong
    together holds from higher up only. So what they are computed from follows, and at last the program's inputs.
    """
    above = _Above(change, value, roots)
    following = set(roots)
    for _ in range(_ABOVE):
        found, alone = above.completed(following)
        yield sorted(found), alone
        following = {source for v in found for source in above.sources(v) or (v,)}
    yield sorted(set(change.before.inputs) & above.upwards(above.wanted)), True


class _Above:
    """The original's values that `value` and the `roots` are computed from."""

    def __init__(self, change: Programs, value: int, roots: list[int]) -> None:
        self.change, self.value, self.wanted = change, value, {value, *roots}

    def sources(self, value: int) -> tuple[int, ...]:
        node = self.change.before.nodes.get(value)
        return () if node is None else node.inputs

    def upwards(self, start: Iterable[int], stop: Iterable[int] = (), first: int = 0) -> set[int]:
        """What `start` is computed from, itself included, no further than `stop` and down to number `first`."""
        found: set[int] = set()
        stack, ends = list(start), set(stop)
        while stack:
            current = stack.pop()
            # Numbers rise in order of execution.
            if current not in found and current >= first:
                found.add(current)
                stack += () if current in ends else self.sources(current)
        return found

    def completed(self, values: Iterable[int]) -> tuple[set[int], bool]:
        """`values` without those that follow from others, with what the wanted ones are computed from beside them.

        The second result says that there is nothing beside.
        """
        ground, alone = self._drawn(values), True
        while True:
            ground = {v for v in ground if not self._follows(v, ground - {v})}
            follow = {self.value}
            for current in sorted(needed := self.upwards(self.wanted, ground)):
                if current not in ground and any(s in ground or s in follow for s in self.sources(current)):
                    follow.add(current)
            beside = {s for v in follow for s in self.sources(v)} & needed - follow - ground
            beside = self._drawn(beside) - ground
            if not beside:
                return ground, alone
            ground, alone = ground | beside, False

    def _follows(self, value: int, others: set[int]) -> bool:
        above = self.upwards(self.sources(value), others, min(others, default=value))
        return not others.isdisjoint(above)

    def _drawn(self, values: Iterable[int]) -> set[int]:
        """Those of `values` to draw; instead of what is no tensor of numbers, what that is computed from.

        What no input of the program goes into is not drawn: it is what it is.
        """
        found, stack = set(), list(values)
        while stack:
            value = stack.pop()
            if not self._is_tensor(value):
                stack += self.sources(value)
            elif self._varies(value):
                found.add(value)
        return found

    def _varies(self, value: int) -> bool:
        """Whether an input of the program goes into a value."""
        stack, seen = [value], set()
        while stack:
            current = stack.pop()
            if current in self.change.before.inputs:
                return True
            if current not in seen:
                seen.add(current)
                stack += self.sources(current)
        return False

    def _is_tensor(self, value: int) -> bool:
        return not self.sources(value) or "float" in self.change.before.values[value].dtype
