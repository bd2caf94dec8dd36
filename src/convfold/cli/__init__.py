"""The command line: ``convfold VERB``. One small file per verb; here they are only gathered.

Exit codes: 0 success, 1 verified unequal, 2 anything else. An error is one sentence on stderr, never a
traceback; with CONVFOLD_TRACEBACK=1 in the environment the traceback is shown, for those who mend it.
A verb's function returns None or its exit code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer
from rich.console import Console

from convfold.cli import (
    bench,
    compare,
    correlate,
    cost,
    decompose,
    demo,
    expand,
    fold,
    lower,
    plan,
    rank,
    train,
    upscale,
    verify,
)
from convfold.errors import ConvfoldError

__all__ = ["app", "main", "run"]

EQUAL, UNEQUAL, FAILED = 0, 1, 2
# What typer answers in place of a KeyboardInterrupt: the shell's code for a process ended by SIGINT.
SIGINT_CODE = 130
INTERRUPTED = "interrupted; no file is half-written, run the same command to go on (with --resume if it has that)"

app = typer.Typer(
    name="convfold",
    help="Write a convolution wide to train and plain to run, and prove that the function did not change.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    """With a callback, typer keeps the verb in the command even while there is only one."""


app.command("demo")(demo.demo)
app.command("plan")(plan.plan)
app.command("fold")(fold.fold)
app.command("verify")(verify.verify)
app.command("expand")(expand.expand)
app.command("cost", cls=cost.CostCommand)(cost.cost)
app.command("decompose")(decompose.decompose)
app.command("lower")(lower.lower)
app.command("train", cls=train.TrainCommand)(train.train)
app.command("upscale")(upscale.upscale)
app.command("rank")(rank.rank)
app.command("correlate")(correlate.correlate)
app.add_typer(compare.app)
app.add_typer(bench.app)


def _complain(sentence: str) -> int:
    Console(stderr=True, soft_wrap=True).print(f"convfold: {sentence}", emoji=False, markup=False, highlight=False)
    return FAILED


def _sentence(error: BaseException) -> str:
    """One line for any error: convfold's own and the command line's are sentences already."""
    if isinstance(error, ConvfoldError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"this needs the package {error.name}, which is not installed; "
            "pip install 'convfold[demo,onnx,report]' brings it."
        )
    if callable(formatted := getattr(error, "format_message", None)):
        said = formatted().rstrip(".") or "no verb was given"
        return f"{said}{'' if said.endswith('?') else '.'} Try --help."
    first = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {first} (CONVFOLD_TRACEBACK=1 shows where)."


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors have been said on stderr."""
    try:
        code = app(args=arguments, prog_name="convfold", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return _complain(f"{INTERRUPTED}.")
    except SystemExit:
        # typer's answer when the reader of our output has gone away; 1 would mean "verified unequal".
        return FAILED
    except Exception as error:
        if os.environ.get("CONVFOLD_TRACEBACK") == "1":
            raise
        return _complain(_sentence(error))
    if code == SIGINT_CODE:
        return _complain(f"{INTERRUPTED}.")
    return int(code or EQUAL)


def main() -> None:
    """The entry point of the `convfold` command."""
    sys.exit(run())
