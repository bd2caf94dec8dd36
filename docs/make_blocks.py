"""Write docs/blocks/: a page per block, its pictures and costs computed from the block itself.

    python docs/make_blocks.py

What cannot be computed, when to use a block and when not, stands in docs/blocks.toml.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convfold import blocks, cost
from convfold.algebra import op as read
from convfold.algebra import text
from convfold.errors import InvalidArgument
from convfold.files import output_folder, write_text
from convfold.report.diagram import diagram

HERE = Path(__file__).parent
SETTING = {"bias": False}


def example(name: str, page: dict[str, Any]) -> tuple[nn.Module, torch.Tensor]:
    """The block that the page's pictures and costs show, and an input for it."""
    arguments, options = page.get("arguments", [64, 64, 3]), page.get("options", {"padding": 1})
    if name != "repmlp":
        options = {**SETTING, **options}
    options = {key: tuple(map(tuple, v)) if key == "branches" else v for key, v in options.items()}
    block = blocks.build(name, page.get("dims", 2), *arguments, **options).eval()
    return block, torch.empty(1, arguments[0], *page.get("map", [28, 28]))


def call(name: str, page: dict[str, Any]) -> str:
    """The Python that builds the example."""
    given = [repr(a) for a in page.get("arguments", [64, 64, 3])]
    given += [f"{key}={value!r}" for key, value in page.get("options", {"padding": 1}).items()]
    return f'convfold.blocks.build("{name}", {page.get("dims", 2)}, {", ".join(given)})'


def law(block: nn.Module) -> str:
    """The docstring that states the block's equation, as Markdown."""
    documented = next(c for c in type(block).__mro__ if c.__doc__)
    found = inspect.getdoc(documented) or ""
    return re.sub(r"``(.+?)``", r"`\1`", found)


def costs(block: nn.Module, x: torch.Tensor) -> str:
    """Cost in both forms, as a Markdown table."""
    folded = block.fold()
    wide, plain = cost(block, x), cost(folded, x)
    rows = [
        ("multiply-accumulates", wide.macs, plain.macs),
        ("convolutions", wide.convolutions, plain.convolutions),
        ("operators", wide.operators, plain.operators),
        ("parameters", wide.params, plain.params),
    ]
    table = "\n".join(f"| {name} | {a:,} | {b:,} |" for name, a, b in rows)
    return f"| | wide, in feature mode | folded |\n|---|---:|---:|\n{table}"


def drawn(block: nn.Module) -> tuple[Any, Any]:
    """The expressions of train form and deploy form; a block that is linear in part shows that part."""
    part = getattr(block, "partition", block)
    return read(part), read(getattr(block.fold(), "partition", block.fold()))


def shapes(block: nn.Module) -> tuple[str, str]:
    """The shapes of input and output, in the example's channels."""
    inputs, outputs = block.in_channels, block.out_channels
    if not hasattr(block, "window"):
        return f"(N, {inputs}, H, W)", "of the same shape, H and W multiples of the partition's"
    return f"(N, {inputs}, H, W)", f"(N, {outputs}, H', W') as for the convolution of the same arguments"


def dims(name: str) -> list[str]:
    """The dimensions in which the block exists."""
    found = []
    for number in range(4):
        with suppress(InvalidArgument):
            blocks.find(name, number)
            found.append(f"{number}-D" if number else "fully connected")
    return found


def write(name: str, page: dict[str, Any]) -> None:
    """The page of one block and its two pictures."""
    torch.manual_seed(0)
    block, x = example(name, page)
    block.mode = "feature"
    wide, plain = drawn(block)
    for form, expression in (("train", wide), ("deploy", plain)):
        write_text(HERE / "blocks" / f"{name}-{form}.svg", diagram(expression, f"{name}, {form} form"))
    shape = "x".join(map(str, x.shape))
    write_text(
        HERE / "blocks" / f"{name}.md",
        f"""# {name}

{law(block)}

    {text(wide)}

![The train form of {name}]({name}-train.svg)

folds to

![The deploy form of {name}]({name}-deploy.svg)

## Shapes and initialisation

Input {shapes(block)[0]}, output {shapes(block)[1]}. It exists as: {", ".join(dims(name))}.

{page["start"].strip()}

## Cost

`{call(name, page)}` on an input of {shape}:

{costs(block, x)}

## When to use it

{page["use"].strip()}

## What is known not to help

{page["not"].strip()}

## Paper

{page["paper"].strip()}
""",
    )


def main() -> None:
    """All pages."""
    output_folder(HERE / "blocks")
    pages = tomllib.loads((HERE / "blocks.toml").read_text())
    for name in blocks.names():
        write(name, pages[name])


if __name__ == "__main__":
    main()
