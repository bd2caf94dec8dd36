"""The counter cases, each asked of every counter that is installed, against the law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from convfold.cost import cost
from convfold.studies.bench.counters.cases import Case
from convfold.studies.bench.counters.table import CASES
from convfold.studies.bench.counters.tools import TOOLS, asked, version_of
from convfold.studies.timing import circumstances

__all__ = ["VERDICTS", "Answers", "CounterStudy", "bench_counters"]

VERDICTS = ("exact", "wider", "wrong", "zero", "failed")


@dataclass(frozen=True)
class Answers:
    """What each tool said of one case: a number, or what stopped it; `rest` is the FLOPs that are not products."""

    case: Case
    said: dict[str, int | str]
    rest: int

    def verdict(self, tool: str) -> str:
        """exact, wider, zero, wrong or failed.

        Some tools add biases, norms and activations to the products: what lies between the truth and the
        truth with all of that work is `wider`, not wrong. `zero` is nothing, silently, where there is something.
        """
        answer, truth = self.said[tool], self.case.macs.value
        if isinstance(answer, str):
            return "failed"
        if answer == truth:
            return "exact"
        return "zero" if answer == 0 else "wider" if truth < answer <= truth + self.rest else "wrong"

    def shown(self, tool: str) -> str:
        """``exact``, the answer over the truth, or ``failed``."""
        answer, verdict = self.said[tool], self.verdict(tool)
        if verdict not in ("wrong", "wider"):
            return verdict
        truth = self.case.macs.value
        ratio = f"x{int(answer) / truth:.3g}" if truth else f"{answer}"
        return f"({ratio})" if verdict == "wider" else ratio


@dataclass(frozen=True)
class CounterStudy:
    """The answers of all tools to all cases, and how often each was exact."""

    answers: tuple[Answers, ...]
    versions: dict[str, str]
    speed: dict[str, Any] = field(default_factory=dict)

    def counts(self, tool: str) -> dict[str, int]:
        """How many cases got each verdict of the tool."""
        verdicts = [answer.verdict(tool) for answer in self.answers]
        return {kind: verdicts.count(kind) for kind in VERDICTS}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "study": "bench counters",
            **circumstances("as the system has it"),
            "tools": {tool: {"version": v, **self.counts(tool)} for tool, v in self.versions.items()},
            "cases": [
                {
                    "name": a.case.name,
                    "law": str(a.case.macs),
                    "macs": a.case.macs.value,
                    "other_flops": a.rest,
                    "said": a.said,
                    "verdicts": {tool: a.verdict(tool) for tool in a.said},
                }
                for a in self.answers
            ],
            **({"speed": self.speed} if self.speed else {}),
        }


def bench_counters(
    tools: Sequence[str] = (), tell: Callable[[str], None] = lambda name: None, cases: Sequence[Case] = CASES
) -> CounterStudy:
    """Ask `tools`, all that are installed when left out, about every case; `tell` hears each one's name.

    Each question has a model and inputs of its own, in eval mode, on the CPU.
    """
    versions = {tool: v for tool in (tools or TOOLS) if (v := version_of(tool)) is not None}
    answers = []
    for case in cases:
        tell(case.name)
        said = {}
        for tool in versions:
            torch.manual_seed(0)
            said[tool] = asked(tool, case.build().eval(), case.inputs())
        report = cost(case.build(), case.inputs())
        answers.append(Answers(case, said, report.flops - 2 * report.macs))
    return CounterStudy(tuple(answers), versions)
