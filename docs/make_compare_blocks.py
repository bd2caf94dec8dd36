"""Write the figures of docs/compare-blocks.md from results/compare-blocks.json, so that none is typed by hand.

python docs/make_compare_blocks.py
"""

from typing import Any

from marked import ROOT, filled, results

RESULTS = "compare-blocks.json"
PAGE = ROOT / "docs" / "compare-blocks.md"
BEGIN, END = "<!-- results: written by docs/make_compare_blocks.py -->", "<!-- end of results -->"
SAID = {"real": "real", "scale": "initial scale", "unclear": "scale not excluded", "open": "unresolved"}
TITLES = {"digits": "digits", "digits-200": "digits, few images", "deep": "deep, no BN", "sr": "super-resolution ×2"}


def _cell(verdict: dict[str, Any], digits: int) -> str:
    """The difference, its interval, and what is known of it."""

    def number(value: float) -> str:
        return f"{value:+.{digits}f}".replace("-", "−")

    side = "" if verdict["verdict"] == "open" else ", better" if verdict["better"] else ", worse"
    low, high = verdict["low"], verdict["high"]
    ends = "" if low is None or high is None else f" ({number(low)} to {number(high)})"
    text = f"{number(verdict['mean'])}{ends} {SAID[verdict['verdict']]}{side}"
    return f"**{text}**" if verdict["verdict"] == "real" else text


def _table(found: dict[str, Any], question: str, digits: int) -> str:
    tasks = list(found["tasks"])
    cells = {(v["arm"], v["task"]): _cell(v, digits) for v in found["verdicts"] if v["question"] == question}
    arms = list(dict.fromkeys(arm for arm, _ in cells))
    head = f"| arm | {' | '.join(TITLES[task] for task in tasks)} |\n|---|{'---|' * len(tasks)}"
    rows = [f"| `{arm}` | {' | '.join(cells.get((arm, task), '') for task in tasks)} |" for arm in arms]
    return "\n".join([head, *rows])


def _means(found: dict[str, Any]) -> str:
    """Every arm's mean, task by task: controls and all."""
    lines = []
    for task, of in found["tasks"].items():
        arms = ", ".join(f"{arm['label']} {arm['value']['mean']:.2f}" for arm in of["arms"].values())
        seeds = found["settings"][task]["seeds"]
        lines.append(f"* {TITLES[task]}, {of['measure']['name']}, {seeds} seeds: {arms}.")
    return "\n".join(lines)


def _times(found: dict[str, Any]) -> str:
    tasks = found["tasks"]
    head = f"| block | {' | '.join(TITLES[task] for task in tasks)} |\n|---|{'---:|' * len(tasks)}"
    blocks = list(next(iter(tasks.values()))["step_over_plain"])
    rows = []
    for name in blocks:
        ratios = (f"{of['step_over_plain'][name]['median']:.2f}" for of in tasks.values())
        rows.append(f"| `{name}` | {' | '.join(ratios)} |")
    return "\n".join([head, *rows])


def _said(found: dict[str, Any]) -> str:
    """Task by task what is real, what is initial scale, what is neither for sure; the rest is unresolved."""
    lines = []
    for task in found["tasks"]:
        each = [v for v in found["verdicts"] if v["question"] == "end" and v["task"] == task]
        parts = []
        for kind, word in SAID.items():
            some = [v for v in each if v["verdict"] == kind]
            if kind == "open":
                parts += [f"{word}: {len(some)} of {len(each)} arms"]
                continue
            for better in (True, False):
                names = ", ".join(f"`{v['arm']}`" for v in some if v["better"] is better)
                parts += [f"**{word}, {'better' if better else 'worse'}**: {names}"] if names else []
        lines.append(f"* {TITLES[task]}: {'; '.join(parts)}.")
    return "\n".join(lines)


def written(found: dict[str, Any]) -> str:
    """What stands between the marks."""
    certified = "every fold and every equal start was certified, and every folded network counts plain's MACs"
    return f"""\
Made by `{found["command"]}`; {certified if not found["unequal"] else f"NOT certified: {found['unequal']}"}.

{_said(found)}

What is deployed, against the plain network that the arm starts as (`-own`: against plain as torch draws it), with 95%
intervals; test error in points (lower is better), for super-resolution PSNR in dB (higher is better):

{_table(found, "end", 2)}

The mean training loss of the first quarter of training, the same way:

{_table(found, "early", 4)}

Means of all arms, controls included:

{_means(found)}

A training step of the wide network over plain's, in CPU time:

{_times(found)}"""


def updated(page: str, found: dict[str, Any]) -> str:
    """The page with the figures of these results."""
    return filled(page, BEGIN, END, written(found))


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(), results(RESULTS)))
