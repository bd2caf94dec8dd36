"""Random linear graphs with nonlinearities between: trees and DAGs over everything that a fold reads."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from support.random_builder import Builder
from support.random_motifs import DRAWN
from support.random_steps import INPLACE, Part, Step, nested

__all__ = ["RandomGraph", "random_graph"]


@dataclass
class RandomGraph:
    """A model in float64, its inputs, others of another batch and of other sizes, and what it is made of."""

    seed: int
    model: Part
    inputs: tuple[Tensor, ...]
    other_batch: tuple[Tensor, ...]
    other_size: tuple[Tensor, ...]
    labels: frozenset[str]
    flavour: str

    def __str__(self) -> str:
        shapes = ", ".join(str(list(x.shape)) for x in self.inputs)
        return f"seed {self.seed}, {self.flavour}, inputs {shapes}\n{self.model.text()}"


def random_graph(seed: int, most: int | None = None) -> RandomGraph:
    """The graph of that number; with `most`, only its first so many structures."""
    b = Builder(seed)
    rng = b.rng
    sizes = [rng.randint(5, 9), rng.randint(5, 9)]
    inputs = [b.input((rng.randint(1, 2), rng.randint(2, 6), *sizes))]
    if b.chance(0.25):
        inputs.append(b.input((b.values[0].shape[0], rng.randint(2, 6), *sizes)))
    planned = rng.randint(2, 7)
    weights, draws = zip(*DRAWN, strict=True)
    for _ in range(planned if most is None else min(most, planned)):
        b.try_many(lambda: rng.choices(draws, weights)[0](b))
    if not b.steps:
        b.one("module", inputs[:1], [b.hold(b.fill(nn.Conv2d(b.channels(0), 3, 1)), "conv")], label="conv")
    # Apart from the draws above, so that a shorter graph ends like a longer one.
    return _finished(b, seed, inputs, random.Random(-1 - seed))


def _finished(b: Builder, seed: int, inputs: list[int], rng: random.Random) -> RandomGraph:
    outputs = _outputs(b, inputs, rng)
    steps = list(b.steps) if rng.random() < 0.1 else _needed(b.steps, outputs)
    held: dict[str, Any] = dict(b.held)
    flavour = "flat"
    if rng.random() < 0.6:
        flavour = "nested"
        steps, held = _sequences(steps, held, outputs) if rng.random() < 0.6 else (steps, held)
        for _ in range(rng.randint(1, 2)):
            cuts = sorted(rng.sample(range(len(steps) + 1), min(rng.randint(1, 3), len(steps))))
            steps, held = nested(steps, _renamed(held, steps), inputs, outputs, cuts) if cuts else (steps, held)
    form = rng.choices(["tuple", "list", "dict"], [8, 1, 1])[0]
    model = Part(steps, held, inputs, outputs, form).eval()
    first = tuple(b.values[n] for n in inputs)
    batch = tuple(b.normal(x.shape[0] + 1, *x.shape[1:]) for x in first)
    size = tuple(b.normal(*x.shape[:2], x.shape[2] + 2, x.shape[3] + 4) for x in first)
    labels = frozenset(step.label for step in b.steps if set(step.results) & _reached(b.steps, outputs))
    return RandomGraph(seed, model, first, batch, size, labels, flavour)


def _outputs(b: Builder, inputs: list[int], rng: random.Random) -> list[int]:
    """The last value, some of those that nothing reads, and now and then one that something does."""
    read = {number for step in b.steps for number in step.sources}
    made = [number for step in b.steps for number in step.results]
    loose = [number for number in made[:-1] if number not in read]
    found = [made[-1], *rng.sample(loose, min(len(loose), rng.choice([0, 1, 3])))]
    if rng.random() < 0.25:
        found.append(rng.choice(made))
    return list(dict.fromkeys(found))


def _reached(steps: list[Step], outputs: list[int]) -> set[int]:
    return {number for step in _needed(steps, outputs) for number in step.results}


def _needed(steps: list[Step], outputs: list[int]) -> list[Step]:
    """The steps that the outputs depend on; writing into a value that is needed counts."""
    wanted, kept = set(outputs), []
    for step in reversed(steps):
        if wanted & set(step.results) or (step.kind in INPLACE and step.sources[0] in wanted):
            wanted |= set(step.sources)
            kept.append(step)
    return kept[::-1]


def _renamed(held: dict[str, Any], steps: list[Step]) -> dict[str, Any]:
    """Parts of an earlier nesting under other names, so that a later one can use theirs."""
    names = {name: f"inner_{name}" for name in held if name.startswith("part")}
    for index, step in enumerate(steps):
        if any(name in names for name in step.held):
            renamed = tuple(names.get(name, name) for name in step.held)
            steps[index] = Step(step.kind, step.sources, step.results, renamed, step.options, step.label)
    return {names.get(name, name): thing for name, thing in held.items()}


def _sequences(steps: list[Step], held: dict[str, Any], outputs: list[int]) -> tuple[list[Step], dict[str, Any]]:
    """Modules of which one alone reads what the other gave, in an nn.Sequential."""
    readers = [number for step in steps for number in step.sources] + list(outputs)
    found: list[Step] = []
    held = dict(held)
    for step in steps:
        before = found[-1] if found else None
        alone = before is not None and step.sources == before.results and readers.count(step.sources[0]) == 1
        if before is not None and alone and step.kind == before.kind == "module" and len(before.sources) == 1:
            first, second = held[before.held[0]], held[step.held[0]]
            layers = list(first) if isinstance(first, nn.Sequential) else [first]
            name = f"sequence{len(held)}"
            held[name] = nn.Sequential(*layers, second)
            found[-1] = Step("module", before.sources, step.results, (name,))
        else:
            found.append(step)
    return found, held
