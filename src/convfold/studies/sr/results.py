"""All that a super-resolution study measured, and the comparisons drawn from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from convfold.studies.effects import Effect, cohens_dz
from convfold.studies.sr.runs import PLAIN, Run, Settings
from convfold.studies.statistics import Paired, Spread, adjusted, compare, spread

__all__ = ["PSNR", "SSIM", "Against", "Results", "column"]

# Per picture: name, PSNR in dB, SSIM.
Rows = Sequence[tuple[str, float, float]]
PSNR, SSIM = 1, 2


@dataclass(frozen=True)
class Against:
    """An arm minus plain over seeds: the differences in dB, their test, and how large the effect is.

    Both at one rate, or with `best` each at its own best one.
    """

    arm: str
    rate: float
    plain_rate: float
    best: bool
    differences: list[float]
    psnr: Paired
    ssim: Paired
    effect: Effect

    @property
    def key(self) -> str:
        """The same for comparisons of the same runs."""
        return f"{self.arm} {self.rate:g} {self.plain_rate:g}"

    @property
    def wins(self) -> int:
        return sum(difference > 0 for difference in self.differences)


@dataclass(frozen=True)
class Results:
    """The runs by (name, seed), what bicubic gives, the networks that were written, and how it was called."""

    arms: list[str]
    rates: list[float]
    seeds: list[int]
    settings: Settings
    parts: Mapping[str, Sequence[str]]
    skipped: Sequence[str]
    runs: Mapping[tuple[str, int], Mapping[str, Any]]
    bicubic: Rows
    costs: Mapping[str, Any]
    files: Mapping[str, str]
    command: str
    versions: Mapping[str, str]

    @property
    def blocks(self) -> list[str]:
        return [arm for arm in self.arms if arm != PLAIN]

    def of(self, arm: str, rate: float) -> list[Mapping[str, Any]]:
        """The runs of an arm at a rate in the order of their seeds."""
        return [self.runs[Run(arm, rate).name, seed] for seed in self.seeds]

    def values(self, arm: str, rate: float, part: str = "test", of: int = PSNR) -> list[float]:
        """Per seed the mean over the pictures of a part."""
        return [_mean(column(run[part], of)) for run in self.of(arm, rate)]

    def spread(self, arm: str, rate: float, of: int = PSNR) -> Spread:
        return spread(self.values(arm, rate, of=of))

    @property
    def floor(self) -> float:
        """What bicubic gives on the held-out pictures, in dB."""
        return _mean(column(self.bicubic, PSNR))

    @cached_property
    def best(self) -> dict[str, float]:
        """Per arm the learning rate with the highest mean PSNR on the pictures that decide; none is held out."""
        return {arm: max(self.rates, key=lambda rate: _mean(self.values(arm, rate, "validate"))) for arm in self.arms}

    @cached_property
    def against(self) -> list[Against]:
        """Every arm minus plain: at each rate; then each at its own best, where there are several. Holm over all."""
        found = [self._against(arm, rate, rate, False) for rate in self.rates for arm in self.blocks]
        if len(self.rates) > 1:
            found += [self._against(arm, self.best[arm], self.best[PLAIN], True) for arm in self.blocks]
        # Where both are best at one rate, that comparison is among the first already.
        held = adjusted({one.key: one.psnr for one in found})
        return [replace(one, psnr=held[one.key]) for one in found]

    @property
    def at_equal_rates(self) -> list[Against]:
        """The comparisons at one rate for both."""
        return [one for one in self.against if not one.best]

    @property
    def at_best(self) -> list[Against]:
        """The comparisons of each arm at its own rate; empty where there is one rate."""
        return [one for one in self.against if one.best]

    @property
    def certificates(self) -> list[Mapping[str, Any]]:
        """Those of all folds."""
        return [run["certificate"] for run in self.runs.values()]

    @property
    def starts(self) -> list[Mapping[str, Any]]:
        """Those of all expansions, before training."""
        return [run["start"] for run in self.runs.values() if run["start"] is not None]

    def _against(self, arm: str, rate: float, plain_rate: float, best: bool) -> Against:
        mine, theirs = self.values(arm, rate), self.values(PLAIN, plain_rate)
        similar = compare(self.values(arm, rate, of=SSIM), self.values(PLAIN, plain_rate, of=SSIM))
        differences = [a - b for a, b in zip(mine, theirs, strict=True)]
        effect = cohens_dz(mine, theirs)
        return Against(arm, rate, plain_rate, best, differences, compare(mine, theirs), similar, effect)

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain values, for JSON."""
        return {
            "command": self.command,
            "versions": dict(self.versions),
            "settings": self.settings.shared(),
            "pictures": {part: list(names) for part, names in self.parts.items()},
            "skipped": list(self.skipped),
            "seeds": self.seeds,
            "rates": self.rates,
            "bicubic": [list(row) for row in self.bicubic],
            "chosen_rates": self.best,
            "comparisons": [asdict(one) for one in self.against],
            "costs": dict(self.costs),
            "files": dict(self.files),
            "runs": [{"name": name, "seed": seed, **run} for (name, seed), run in sorted(self.runs.items())],
        }


def column(rows: Rows, number: int) -> list[float]:
    """One figure of every picture."""
    return [float(row[number]) for row in rows]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
