"""Random steps, each run as it is drawn, so that shapes are known and values stay well-scaled."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from support.random_steps import INPLACE, RUN, ScaledNorm, Step

__all__ = ["Builder", "Rejected"]

WIDEST, MOST, LEAST, LARGEST = 24, 30.0, 0.02, 12_000
NONLINEAR = ("relu", "relu", "relu_", "silu", "gelu", "hardswish", "leaky_relu", "sigmoid")


class Rejected(Exception):
    """A step that does not run, or leads out of scale; another one is drawn."""


class Builder:
    """A program in the making: the values so far with their layouts, the steps, and what they hold.

    Layouts are "map" (N, C, H, W), "last" (N, H, W, C), "tokens" (N, L, C) and "vector" (N, C).
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.values: list[Tensor] = []
        self.layouts: list[str] = []
        self.steps: list[Step] = []
        self.held: dict[str, nn.Module | Tensor] = {}

    def input(self, shape: Sequence[int]) -> int:
        self.values.append(self.normal(*shape))
        self.layouts.append("map")
        return len(self.values) - 1

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def factor(self, *shape: int) -> Tensor:
        """Of either sign, away from zero."""
        size = torch.empty(shape, dtype=torch.float64).uniform_(0.5, 1.5, generator=self.generator)
        return size * torch.where(torch.rand(shape, generator=self.generator) < 0.3, -1.0, 1.0)

    def hold(self, thing: nn.Module | Tensor, kind: str) -> str:
        name = f"{kind}{len(self.held)}"
        self.held[name] = thing
        return name

    def many(
        self, kind: str, sources: Sequence[int], held: Sequence[str] = (), options: Sequence[Any] = (), label: str = ""
    ) -> list[int]:
        """Run a step and keep its results. Raises Rejected, after which nothing has changed."""
        given = [self.values[number] for number in sources]
        try:
            # With gradients on, as a user runs it: writing into a piece of a split is then refused.
            found = RUN[kind](*given, *(self.held[name] for name in held), *options)
        except (RuntimeError, ValueError, IndexError) as error:
            raise Rejected(str(error)) from error
        results = list(found) if isinstance(found, (tuple, list)) else [found]
        for value in results:
            largest = float(value.detach().abs().max()) if value.numel() else 0.0
            if kind not in INPLACE and not (LEAST < largest < MOST and value.numel() < LARGEST):
                raise Rejected("out of scale")
        numbers = list(range(len(self.values), len(self.values) + len(results)))
        self.values += results
        layout = {4: "map", 3: "tokens", 2: "vector"}
        for value in results:
            same = value.dim() == 4 and any(self.layouts[n] == "last" for n in sources) and kind != "from last"
            self.layouts.append("last" if kind == "to last" or same else layout[value.dim()])
        self.steps.append(Step(kind, tuple(sources), tuple(numbers), tuple(held), tuple(options), label or kind))
        return numbers

    def one(self, *args: Any, **kwargs: Any) -> int:
        return self.many(*args, **kwargs)[0]

    def pick(self, *layouts: str) -> int:
        """A value of one of these layouts, more often a late one."""
        found = [number for number, layout in enumerate(self.layouts) if layout in layouts]
        if not found:
            raise Rejected("no such value")
        return found[-1 - min(int(self.rng.expovariate(0.7)), len(found) - 1)]

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def channels(self, number: int) -> int:
        value = self.values[number]
        return int(value.shape[-1] if self.layouts[number] in ("last", "tokens") else value.shape[1])

    # --- parts with weights -------------------------------------------------------------------------------

    def fill(self, module: nn.Module) -> nn.Module:
        """Every parameter and statistic of `module` at random, such that values keep their scale."""
        module = module.double().eval()
        with torch.no_grad():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                count = module.num_features
                if module.affine:
                    module.weight.copy_(self.factor(count))
                    module.bias.copy_(0.5 * self.normal(count))
                module.running_mean.copy_(0.5 * self.normal(count))  # type: ignore[union-attr]
                module.running_var.copy_(self.factor(count).abs())  # type: ignore[union-attr]
            else:
                for parameter in module.parameters():
                    fan_in = max(parameter[0].numel(), 1) if parameter.dim() > 1 else 4
                    parameter.copy_(self.normal(*parameter.shape) * fan_in**-0.5)
        return module

    def module(self, number: int, module: nn.Module, label: str = "") -> int:
        name = self.hold(self.fill(module), type(module).__name__.lower())
        return self.one("module", [number], [name], label=label or type(module).__name__)

    def conv(self, number: int, out: int | None = None, kernel: Any = None, **options: Any) -> int:
        """A convolution, of random kind where nothing is asked for; now and then by the functional."""
        rng, inputs = self.rng, self.channels(number)
        free = kernel is None
        if free:
            kernel = rng.choice([1, 1, 2, 3, 3, 3, (1, 3), (3, 1), (3, 2), 4, 5])
        sizes = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        options.setdefault("bias", self.chance(0.5))
        if free and not options.get("groups"):
            divisors = [d for d in range(1, inputs + 1) if inputs % d == 0]
            options["groups"] = rng.choice([1, 1, 1, inputs, rng.choice(divisors)])
        groups = options.get("groups", 1)
        if out is None:
            most = max(1, min(8, WIDEST) // groups)
            out = groups * rng.randint(1, most)
        if free:
            options.setdefault("stride", rng.choice([1, 1, 1, 1, 2, (2, 1)]))
            options.setdefault("dilation", rng.choice([1, 1, 1, 1, 2, (1, 2)]))
            if "padding" not in options:
                mode = rng.choice(["zeros"] * 8 + ["reflect", "circular", "replicate"])
                same = tuple(k // 2 for k in sizes)
                options["padding"] = rng.choice([0, same, same, tuple(rng.randint(0, k) for k in sizes)])
                if options["stride"] == 1 and mode == "zeros" and self.chance(0.15):
                    options["padding"] = "same"
                options["padding_mode"] = mode
        layer = self.fill(nn.Conv2d(inputs, out, kernel, **options))
        kind = "depthwise" if groups == inputs > 1 else "grouped" if groups > 1 else "dense"
        label = f"conv {kind} {sizes[0]}x{sizes[1]}"
        if options.get("padding_mode", "zeros") != "zeros":
            label = f"conv {options['padding_mode']}"
        elif self.chance(0.12):
            held = [self.hold(layer.weight, "weight")]
            bias = () if layer.bias is None else (self.hold(layer.bias, "bias"),)
            settings = (layer.stride, layer.padding, layer.dilation, layer.groups)
            return self.one("conv2d", [number], [*held, *bias], (*([] if bias else [None]), *settings), label=label)
        return self.one("module", [number], [self.hold(layer, "conv")], label=label)

    def norm(self, number: int) -> int:
        """A batch normalisation in one of its spellings."""
        count, layout = self.channels(number), self.layouts[number]
        affine = self.chance(0.85)
        if layout == "tokens":
            name = self.hold(self.fill(nn.BatchNorm1d(count, affine=affine)), "norm")
            return self.one("tokens_norm", [number], [name])
        if layout == "vector":
            return self.module(number, nn.BatchNorm1d(count, affine=affine))
        if layout == "last":
            raise Rejected("no batch normalisation has channels last")
        if self.chance(0.15):
            given = [0.5 * self.normal(count), self.factor(count).abs()]
            parameters = [nn.Parameter(self.factor(count)), nn.Parameter(self.normal(count))] if affine else []
            names = [self.hold(tensor, "statistic") for tensor in (*given, *parameters)]
            return self.one("batch_norm", [number], names)
        return self.module(number, self.rng.choice([nn.BatchNorm2d, nn.BatchNorm2d, ScaledNorm])(count, affine=affine))

    def linear(self, number: int, out: int | None = None) -> int:
        """A Linear over the last axis."""
        if self.layouts[number] == "map":
            raise Rejected("channels are not last")
        inputs = self.values[number].shape[-1]
        out = out or self.rng.randint(1, 8)
        return self.module(number, nn.Linear(inputs, out, bias=self.chance(0.6)))

    def scale(self, number: int) -> int:
        """A factor or a shift: per channel, along other axes, as a parameter or a buffer, or one number."""
        rng, count = self.rng, self.channels(number)
        kind = rng.choice(["add", "sub", "mul", "mul", "div", "imul", "rsub", "neg", "number"])
        if kind == "neg":
            return self.one(kind, [number])
        if kind == "rsub":
            return self.one(kind, [number], options=[rng.choice([1, 0.5, -2.0])], label="number - x")
        if kind == "number":
            how = rng.choice(["add", "sub", "mul", "div"])
            return self.one(how, [number], options=[rng.choice([2, -0.75, 1.5])], label=f"{how} number")
        shape = (count, 1, 1) if self.layouts[number] == "map" else (count,)
        shape = rng.choice([shape, shape, (1,), (1, *shape) if len(shape) > 1 else shape])
        if self.chance(0.12):
            shape = tuple(size if self.chance(0.5) else 1 for size in self.values[number].shape[1:])
        tensor = self.factor(*shape)
        name = self.hold(nn.Parameter(tensor) if self.chance(0.7) else tensor, "scale")
        kind = "mul" if kind == "imul" and not self.private(number) else kind
        return self.one(kind, [number], [name], label=f"{kind} constant")

    def nonlinear(self, number: int) -> int:
        kind = self.rng.choice(NONLINEAR)
        if kind == "relu_" and not self.private(number):
            kind = "relu"
        if kind == "relu" and self.chance(0.3):
            return self.module(number, nn.ReLU())
        return self.one(kind, [number])

    def private(self, number: int) -> bool:
        """Whether writing into a value leaves the inputs alone."""
        storage = self.values[number].untyped_storage().data_ptr()
        made = {n for step in self.steps for n in step.results}
        inputs = [value for n, value in enumerate(self.values) if n not in made]
        return all(storage != value.untyped_storage().data_ptr() for value in inputs)

    def sum(self, numbers: Sequence[int]) -> int:
        """The values added up, in a random order, in one spelling or another."""
        numbers = list(numbers)
        self.rng.shuffle(numbers)
        total = numbers[0]
        for number in numbers[1:]:
            kind = self.rng.choice(["add", "add", "add", "sub", "iadd", "isub", "add alpha"])
            if kind in INPLACE and not self.private(total):
                kind = "add"
            total = self.one(kind, [total, number], options=[0.5] if kind == "add alpha" else [])
        return total

    def again(self) -> int:
        """A module or weight that is already held, on another value."""
        kinds = ("module", "conv2d", "mul", "batch_norm")
        used = [step for step in self.steps if step.held and step.kind in kinds and len(step.sources) == 1]
        if not used:
            raise Rejected("nothing to use again")
        step = self.rng.choice(used)
        source = self.pick(self.layouts[step.sources[0]])
        if source in step.sources:
            raise Rejected("that would be the same value")
        return self.one(step.kind, [source], step.held, step.options, label=f"again {step.label}")

    def try_many(self, draw: Callable[[], Any], times: int = 8) -> bool:
        """Draw until something fits; whether it did. What a rejected draw had already made stays, unused."""
        for _ in range(times):
            try:
                draw()
            except (Rejected, ValueError):  # a layer that cannot be built says ValueError
                continue
            return True
        return False
