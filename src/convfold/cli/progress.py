"""Long work, stage by stage, on a terminal; and warnings as sentences."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from convfold.errors import ConvfoldWarning

__all__ = ["stages"]


@contextmanager
def stages(count: int) -> Iterator[Callable[[str], None]]:
    """Yield a function that begins the next of `count` stages; shown on stderr while that is a terminal.

    Nothing may be printed meanwhile. Convfold's warnings are said afterwards, one line each; torch's are dropped,
    since nobody who folds a model could act on them.
    """
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    bar = Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ConvfoldWarning)
        with bar:
            task = bar.add_task("", total=count)
            begun = False

            def begin(what: str) -> None:
                nonlocal begun
                bar.update(task, description=what, advance=int(begun))
                begun = True

            yield begin
    for sentence in dict.fromkeys(str(warning.message) for warning in caught):
        Console(stderr=True, soft_wrap=True).print(f"convfold: {sentence}", emoji=False, markup=False, highlight=False)
