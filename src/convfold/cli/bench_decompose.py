"""``convfold bench decompose``: does data help? Quality against MACs on trained networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from convfold.cli.names import listed
from convfold.studies.bench.decompose.study import WAYS, Setting, bench_decompose, summarise

__all__ = ["decompose"]


def decompose(
    tasks: Annotated[str, typer.Option(help="digits, photographs; both when left out.")] = "",
    methods: Annotated[str, typer.Option(help="Names with commas between them; all when left out.")] = "",
    seeds: Annotated[int | None, typer.Option(min=1, help="Networks per task.", show_default="3")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Two methods, two budgets, one seed: a first look.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of decompose.json and the pictures.")] = Path("results"),
) -> None:
    """Decompose trained networks to budgets of MACs, by weights and by data; validation chooses, held-out data reports.

    Started again it makes only what is not in decompose.json yet.
    """
    setting = Setting.quick() if quick else Setting()
    if named := tuple(listed(tasks)):
        setting = replace(setting, tasks=named)
    if named := tuple(listed(methods)):
        setting = replace(setting, methods=named)
    if seeds is not None:
        setting = replace(setting, seeds=seeds)
    console = Console()
    with console.status("bench decompose") as status:
        made = bench_decompose(setting, out, status.update)
    for name in setting.tasks:
        networks = [n for n in made["networks"] if n["task"] == name and n["seed"] < setting.seeds]
        whole = sum(n["held_out"] for n in networks) / len(networks)
        title = f"{name}: held-out {networks[0]['quality']}; undecomposed {whole:.2f} at {networks[0]['macs']:,} MACs"
        caption = f"{networks[0]['notes']}. Chosen: of each seed what validation preferred; how often each."
        table = Table(title=title, caption=caption, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for head in ("method", "MACs, of all", *WAYS, "chosen", "weights/data/compressed"):
            table.add_column(head, justify="left" if head == "method" else "right")
        cells = [c for c in made["cells"] if c["task"] == name and c["seed"] < setting.seeds]
        cells = [c for c in cells if c["method"] in setting.methods and c["fraction"] in setting.fractions]
        for row in summarise(cells):
            figures = ("-" if row[way] is None else f"{row[way][1]:.2f}" for way in (*WAYS, "chosen"))
            share = f"{row['chosen'][0] / networks[0]['macs']:.2f}"
            table.add_row(row["method"], share, *figures, "/".join(str(row["choices"][way]) for way in WAYS))
        console.print(table)
    console.print(f"saved: {out / 'decompose.json'}, {', '.join(f'decompose-{t}.png' for t in setting.tasks)}")
