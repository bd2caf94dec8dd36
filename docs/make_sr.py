"""Write the outcome in docs/super-resolution.md from results/sr.json, so that no figure there is typed by hand.

python docs/make_sr.py
"""

from __future__ import annotations

from typing import Any

from marked import ROOT, filled, results

from convfold.files import write_text

PAGE = ROOT / "docs" / "super-resolution.md"
RESULTS = "sr.json"
BEGIN, END = "<!-- outcome: written by docs/make_sr.py -->", "<!-- end of outcome -->"


def _cell(one: dict[str, Any]) -> str:
    """The mean difference with its interval, and in how many seeds it is above 0; bold where it is resolved."""
    pair, wins = one["psnr"], sum(value > 0 for value in one["differences"])
    adjusted = pair["adjusted"]
    text = f"{pair['mean']:+.3f} ({pair['low']:+.3f} to {pair['high']:+.3f})".replace("-", "−")
    text = f"**{text}**" if adjusted is not None and adjusted < 0.05 else text
    return f"{text}, {wins}/{len(one['differences'])}"


def outcome(found: dict[str, Any]) -> str:
    """A row for each block: over plain at each learning rate, and each at its own best."""
    rates, best = found["rates"], found["chosen_rates"]
    equal = {(one["arm"], one["rate"]): one for one in found["comparisons"] if not one["best"]}
    own = {one["arm"]: one for one in found["comparisons"] if one["best"]}
    arms = [arm for arm in best if arm != "plain"]
    rows = [
        f"| `{arm}` | {' | '.join(_cell(equal[arm, rate]) for rate in rates)} | {_cell(own[arm])}, at {best[arm]:g} |"
        for arm in arms
    ]
    head = ["block", *(f"both at {rate:g}" for rate in rates), f"each at its best (plain {best['plain']:g})"]
    ends = [arm for arm in best if best[arm] in (min(rates), max(rates))]
    lines = [
        f"| {' | '.join(head)} |",
        f"|---|{'---|' * (len(rates) + 1)}",
        *rows,
        "",
        f"Mean test PSNR over plain, dB, of {len(found['seeds'])} seeds, with the 95% interval over seeds; bold is "
        "resolved (paired t-test, Holm over all comparisons). After it the seeds in which the block is above plain.",
    ]
    if ends:
        named = "every arm" if len(ends) == len(best) else ", ".join(f"`{arm}`" for arm in ends)
        lines.append(f"The best rate of {named} lies at an end of those tried: a better one may lie beyond.")
    return "\n".join(lines)


def updated(page: str) -> str:
    """The page with the outcome of today's results."""
    return filled(page, BEGIN, END, outcome(results(RESULTS)))


if __name__ == "__main__":
    write_text(PAGE, updated(PAGE.read_text()))
