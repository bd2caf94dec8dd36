"""The certificate of two files: as of two models, with their errors in the L2 norm beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convfold.verify.certificate import Certificate, Probe

__all__ = ["FileCertificate", "FileProbe"]


@dataclass(frozen=True)
class FileProbe(Probe):
    """One run of both files.

    * `own_error`: the first file's distance from the reference, or from itself in other runs where there is none;
    * `reference`: whether `error` is the second file's distance from the float64 reference, not from the first file;
    * `l2`, `own_l2`: the relative L2 errors of the second and the first file; without a reference `l2` is how far
      they are apart and `own_l2` is None.
    """

    own_error: float
    reference: bool
    l2: float
    own_l2: float | None


@dataclass(frozen=True)
class FileCertificate(Certificate):
    """The outcome of comparing two files; true iff the second stayed within its bound in every probe."""

    probes: tuple[FileProbe, ...]
    skipped: int = 0

    @property
    def reference(self) -> bool:
        """Whether every probe has a float64 reference."""
        return all(probe.reference for probe in self.probes)

    @property
    def l2_ratio(self) -> float | None:
        """The L2 error of the second file by that of the first, at its largest; None without a reference."""
        ratios = [probe.l2 / probe.own_l2 for probe in self.probes if probe.own_l2 is not None]
        return max(ratios, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; the worst input is left out."""
        more = {"reference": self.reference, "l2_ratio": self.l2_ratio, "skipped": self.skipped}
        return {**super().to_dict(), **more}

    def __str__(self) -> str:
        ratio = self.l2_ratio
        if ratio is None:
            return f"{super().__str__()}\n  no float64 reference: the files were compared with each other"
        return f"{super().__str__()}\n  L2 error against float64: {ratio:.2f} times the first file's"
