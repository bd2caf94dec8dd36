"""Write docs/benchmarks.md: what was measured, as tables of results/, so that no figure there is typed by hand.

python docs/make_benchmarks.py
"""

from __future__ import annotations

import json

import figures
from marked import ROOT, results

from convfold.files import write_text

PAGE = ROOT / "docs" / "benchmarks.md"


def _link(name: str) -> str:
    return f"[results/{name}](../results/{name})"


def _relinked(text: str) -> str:
    """What is written for the README, as read from docs/."""
    return text.replace("[results/](results)", "`results/`").replace("](results/", "](../results/")


def onnx() -> str:
    """ONNX files of several exporters, folded; beside two optimisers of the field."""
    lines = (ROOT / "results" / "onnx.jsonl").read_text().splitlines()
    rows = []
    for record in map(json.loads, filter(None, lines)):
        found = record["result"]
        over = found.get("latency", {}).get("over_folded", {})
        times = [f"{over[who]['median']:.2f}" if who in over else "-" for who in ("given", "onnxsim", "onnxslim")]
        macs = " / ".join(f"{n / 1e6:,.1f}" for n in found["macs"])
        operators = " / ".join(f"{n:,}" for n in found["operators"])
        name = record["name"].replace("convfold.studies.bench.onnx:", "")
        rows.append(f"| `{name}` | {macs} | {operators} | {' | '.join(times)} |")
    return f"""\
`convfold bench onnx`: files as two exporters write them, folded by `convfold fold model.onnx`; before / after. The last
columns are times in ONNX Runtime, one thread, of the given file and of what onnxsim and onnxslim make of it, over the
folded file's ({_link("onnx.jsonl")}).

| model and exporter | MMACs | operators | given | onnxsim | onnxslim |
|---|---:|---:|---:|---:|---:|
{chr(10).join(rows)}"""


def counters() -> str:
    """How many layers each tool counts exactly."""
    found = results("counters.json")
    cases = found["cases"]
    rows = []
    for tool in found["tools"]:
        verdicts = [case["verdicts"].get(tool, "") for case in cases]
        rows.append(f"| {tool} | {verdicts.count('exact')} |")
    return f"""\
`convfold bench counters`: layers whose multiply-accumulates are known by a law, {len(cases)} of them
({_link("counters.json")}). A tool that also counts what is no multiply-accumulate is not exact here.

| tool | exact |
|---|---:|
{chr(10).join(rows)}"""


def decompose() -> str:
    """Held-out quality of decomposed networks at budgets of MACs."""
    found = results("decompose.json")
    parts = []
    for network in found["networks"]:
        cells = {(c["method"], c["fraction"]): c for c in found["cells"] if c["task"] == network["task"]}
        fractions = found["setting"]["fractions"]
        head = f"| {network['task']}: {network['quality']} | {' | '.join(f'{f:.0%} of MACs' for f in fractions)} |"
        rows = [head, f"|---|{'---:|' * len(fractions)}"]
        for method in found["setting"]["methods"]:
            quality = []
            for fraction in fractions:
                cell = cells[method, fraction]
                quality.append(f"{cell['candidates'][cell['chosen']]['held_out']:.2f}" if cell["chosen"] else "-")
            rows.append(f"| {method} | {' | '.join(quality)} |")
        floor = "" if network["floor"] is None else f" Without a network: {network['floor']:.2f}."
        rows.append(f"\nWhole: {network['held_out']:.2f}.{floor} {network['notes'].capitalize()}.")
        parts.append("\n".join(rows))
    return f"""\
`convfold bench decompose`: a small network is trained, then decomposed to a share of its multiply-accumulates; of
factors fitted to weights or to data, validation chooses; held-out quality, {found["setting"]["seeds"]} seed
({_link("decompose.json")}).

{(chr(10) * 2).join(parts)}"""


def proofs() -> str:
    """The long property tests."""
    blocks, graphs, fuzz = (results(f"{name}.json") for name in ("deep-blocks", "deep-onnx", "onnx-fuzz"))
    networks = results("deep-graphs.json")
    bounds = results("decompose-bounds.json")
    tried = sum(row["configurations"] for row in blocks["rows"])
    worst = max(row["worst_relative_fold_error"] for row in blocks["rows"])
    kernels = sum(row["kernels"] for row in bounds["rows"])
    failed = len(fuzz["failures"])
    outside = sum(len(row["failures"]) for row in bounds["rows"])
    rows = [
        ("random blocks, folded", f"{tried:,}", f"largest error {worst:.1e} of the largest output", "deep-blocks.json"),
        *(
            (f"random {kind} graphs, folded", f"{of['graphs']:,}", f"{len(of['failures'])} failures", file)
            for kind, file, of in (("torch", "deep-graphs.json", networks), ("ONNX", "deep-onnx.json", graphs))
        ),
        (
            "damaged ONNX files",
            f"{fuzz['files']:,}",
            f"{failed} neither folded nor refused in a sentence",
            "onnx-fuzz.json",
        ),
        ("random kernels, decomposed", f"{kernels:,}", f"{outside} outside of their bound", "decompose-bounds.json"),
    ]
    table = "\n".join(f"| {what} | {count} | {found} | {_link(name)} |" for what, count, found, name in rows)
    return f"""\
| what | cases | found | results |
|---|---:|---|---|
{table}"""


def page() -> str:
    """The whole page."""
    return f"""\
# What was measured

Every table here is written by `docs/make_benchmarks.py` from the files in `results/`, which hold the settings and
versions that they were made with. Times are CPU seconds of one process, in turns with a control of equal parts, on one
shared machine: ratios carry over to another better than seconds do.

## Blocks

{_relinked(figures.table())}

## Whole models

{_relinked(figures.zoo(shown=None))}

## ONNX files

{onnx()}

## Counters of operations

{counters()}

## Decomposition

{decompose()}

## Proofs by numbers

{proofs()}

## Elsewhere

* Do dynamic convolutions help? Eight arms with seeds, controls and corrections: [dynamic.md](dynamic.md#does-it-help).
* Is learning a product easier than learning one factor? [depth.md](depth.md).
* Ways to execute a dynamic convolution: [dynamic.md](dynamic.md). Seconds per kind of operator: [device.md](device.md).
* Reference networks against their papers: [dynamic-networks.md](dynamic-networks.md).
"""


if __name__ == "__main__":
    write_text(PAGE, page())
