"""Where the parts of rewritten modules are put, and which modules nothing calls any more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, filterfalse

from torch import nn

from convfold.graph.captured import Constant
from convfold.plan.emission.change import Change
from convfold.plan.emission.outcome import Outcome
from convfold.plan.emission.reach import Reach
from convfold.plan.emission.recipes import keys_of, names_in
from convfold.plan.emission.scope import OutOfReach
from convfold.plan.emission.spelling import attribute, identifier
from convfold.plan.emission.sums import Part
from convfold.plan.emission.writer import Namer

__all__ = ["Placed", "Places"]

_FRESH = {"conv": "folded", "scale": "scale", "shift": "shift", "border": "border_bias", "index": "channels"}


@dataclass(frozen=True, eq=False)
class Placed:
    """A part at `path` in the model; `old` is the module whose place it takes, None for a new name."""

    part: Part
    path: str
    old: nn.Module | None


@dataclass
class Places(Namer):
    """The namer of one rewritten module at a time (`enter`); remembers what was put where."""

    change: Change
    outcomes: list[Outcome]
    model: nn.Module
    placed: list[Placed] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.modules = dict(self.model.named_modules(remove_duplicate=False))
        change, calls = self.change, self.change.captured.calls
        self._called = {id(self.modules[c.path]) for c in calls}
        self._reach = Reach(change)
        self._order = {name: index for index, name in enumerate(self.model.state_dict(keep_vars=True))}
        self.alive: set[int] = set()
        for outcome in self.outcomes:
            held = change.below(outcome.call.number) if outcome.kind == "untouched" else [outcome.call]
            self.alive |= {id(self.modules[c.path]) for c in held}
        for name in change.constants(self.inlined, named=True):
            self.alive.add(id(self.modules[name.rpartition(".")[0]]))
        whole = (o for o in self.outcomes if o.kind in ("replaced", "identity"))
        self._filled = {id(self.modules[outcome.call.path]) for outcome in whole}
        self._taken: set[int] = set()
        self._names: dict[int, set[str]] = {}
        self._dead: dict[str, bool] = {}
        self.enter("")

    @property
    def inlined(self) -> frozenset[int]:
        """The values that rewritten forwards compute by their original operators: of constants, baked ones."""
        units = (unit for outcome in self.outcomes for unit in outcome.units if unit.outcome is None)
        return frozenset(unit.value for unit in units if unit.value not in self.change.changed)

    def enter(self, path: str) -> None:
        """From now on the module at `path` is written."""
        self.at = path
        self._since = (len(self.placed), set(self.constants), set(self._taken))

    def restart(self) -> None:
        placed, constants, self._taken = self._since[0], self._since[1], set(self._since[2])
        del self.placed[placed:]
        self.constants = {name: c for name, c in self.constants.items() if name in constants}
        self._names.pop(id(self.modules[self.at]), None)

    def _relative(self, path: str) -> str | None:
        if self.at == "":
            return path
        return path[len(self.at) + 1 :] if path.startswith(f"{self.at}.") else None

    def module(self, path: str) -> str:
        """How the written forward names a module, by whichever of its names stands below; raises OutOfReach."""
        names = chain([path], (name for name, module in self.modules.items() if module is self.modules[path]))
        standing = filterfalse(self._stands_in_filled, names)
        relative = next(filter(None, map(self._relative, standing)), None)
        if relative is None:
            raise OutOfReach(f"it calls '{path}', which it does not hold")
        return attribute(self.modules[self.at], relative)

    def _stands_in_filled(self, path: str) -> bool:
        """Whether a module around it is replaced as a whole: what is inside is not there under that name any more."""
        names = path.split(".")
        return any(id(self.modules[".".join(names[:end])]) in self._filled for end in range(1, len(names)))

    def constant(self, constant: Constant) -> str:
        name = self.change.captured.names.get(constant.key)
        relative = None if name is None else self._relative(name)
        if relative is not None and name is not None:
            self.used.add(name)
            return attribute(self.modules[self.at], relative)
        hint = "constant" if name is None else name.rpartition(".")[2]
        known = (n for n, c in self.constants.items() if c == constant and n.rpartition(".")[0] == self.at)
        path = next(known, None) or self._join(self._fresh(hint))
        self.constants[path] = constant
        return f"self.{path.rpartition('.')[2]}"

    def part(self, part: Part) -> str:
        old = self._home(part) if part.role == "conv" else None
        path = self._join(self._fresh(_FRESH[part.role])) if old is None else old
        self.placed.append(Placed(part, path, None if old is None else self.modules[old]))
        relative = self._relative(path)
        assert relative is not None
        return attribute(self.modules[self.at], relative)

    def _join(self, name: str) -> str:
        return f"{self.at}.{name}" if self.at else name

    def _fresh(self, hint: str) -> str:
        module = self.modules[self.at]
        names = self._names.setdefault(id(module), set())
        name, count = identifier(hint), 1
        while hasattr(module, name) or name in names:
            count += 1
            name = f"{identifier(hint)}_{count}"
        names.add(name)
        return name

    def _home(self, part: Part) -> str | None:
        """The largest dead module below the written one that held a kernel of the part."""
        assert part.term is not None
        captured = self.change.captured
        names = dict.fromkeys(name for key in keys_of(part.term.map) for name in names_in(captured, key))
        sizes = {name: self._numel(name) for name in names}
        for name in sorted(names, key=lambda n: (-sizes[n], self._order.get(n, 0))):
            holder = name.rpartition(".")[0]
            above = list(self._above(holder))
            # What lies below a module that is replaced as a whole is gone with it.
            if not sizes[name] or not self.dead(holder) or any(id(self.modules[p]) in self._filled for p in above):
                continue
            path = next(filter(self._may_hold, above), None)
            if path is not None and id(self.modules[path]) not in self._taken:
                self._taken.add(id(self.modules[path]))
                return path
        return None

    def _above(self, path: str) -> Iterator[str]:
        """The paths below the written module down to `path`, outermost first."""
        relative = self._relative(path)
        names = relative.split(".") if relative else []
        yield from (self._join(".".join(names[: end + 1])) for end in range(len(names)))

    def _numel(self, name: str) -> int:
        path, _, leaf = name.rpartition(".")
        tensor = getattr(self.modules[path], leaf)
        return int(tensor.numel()) if tensor.dim() > 1 else 0

    def _may_hold(self, path: str) -> bool:
        return id(self.modules[path]) in self._called and self.dead(path)

    def dead(self, path: str) -> bool:
        """Whether nothing at or below `path` is called any more, and nothing there was never called at all."""
        if path not in self._dead:
            self._dead[path] = all(self._is_gone(name, module) for name, module in self._below(path)) and any(
                id(module) in self._reach.contributed for _, module in self._below(path)
            )
        return self._dead[path]

    def _below(self, path: str) -> list[tuple[str, nn.Module]]:
        return [(f"{path}.{n}" if n and path else path or n, m) for n, m in self.modules[path].named_modules()]

    def _is_gone(self, path: str, module: nn.Module) -> bool:
        return id(module) not in self.alive and self._reach.used_up(path, module)

    def removed(self) -> list[str]:
        """The largest dead modules whose place nothing has taken, by path."""
        found, stack = [], [""]
        filled = self._taken | self._filled
        while stack:
            path = stack.pop()
            for name, child in self.modules[path]._modules.items():
                below = f"{path}.{name}" if path else name
                if child is None or id(child) in filled:
                    continue
                if id(child) in self._called and self.dead(below):
                    found.append(below)
                else:
                    stack.append(below)
        return found
