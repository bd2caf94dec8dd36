"""Every line of the newer blocks' equations is needed: small faults planted in them make the contract fail."""

from collections.abc import Callable
from typing import Any

import pytest

from algebra.test_mutation import planted
from blocks.cases import Case
from blocks.contract import check
from blocks.suite import BlockSuite
from blocks.test_dilated import TestDilated as Dilated
from blocks.test_ecb import TestECB as ECB
from blocks.test_fire import TestFire as Fire
from blocks.test_mixconv import TestMixConv as MixConv
from blocks.test_orepa import TestOREPA as OREPA
from blocks.test_psconv import TestPSConv as PSConv
from blocks.test_psconv import TestShape as Shape
from blocks.test_qarepvgg import TestQARepVGG as QARepVGG
from blocks.test_repmlp import Partition, check_partition
from convfold import blocks
from convfold.blocks.repmlp import Perceptron

PARTITION = Partition(4, (3, 4), (6, 8), (1, 3), 2, "bn", 1)
Fault = tuple[type[BlockSuite], Callable[..., Any], str, str]
FAULTS: dict[str, Fault] = {
    "psconv: the pattern turns the other way": (PSConv, blocks.psconv.PSConv._gather, "(q + offset)", "(q - offset)"),
    "psconv: groups take one another's blocks": (
        PSConv,
        blocks.psconv.PSConv._gather,
        "(g * blocks + ",
        "((g + 1) % self.groups * blocks + ",
    ),
    "psconv: padding of the first part for all": (
        PSConv,
        blocks.psconv.PSConv._beyond,
        "(d - 1) * (k // 2)",
        "(d - 1) * 0",
    ),
    "psconv: every part undilated": (
        PSConv,
        blocks.psconv.PSConv._layout,
        "tuple(2 * d for d in self.dilation)",
        "self.dilation",
    ),
    "psconv: shapes swapped": (Shape, blocks.psconv.PSConv._layout, "tall, flat = ", "flat, tall = "),
    "mixconv: every part reads the first share": (MixConv, blocks.mixconv.MixConv.op, "start += width", "start += 0"),
    "mixconv: one size for all": (
        MixConv,
        blocks.mixconv.MixConv.op,
        "self._centred((size,)",
        "self._centred((max(self.kernel_sizes),)",
    ),
    "fire: halves exchanged": (
        Fire,
        blocks.fire.Fire.op,
        "return Concat((self._placed(self.point, pads), self._placed(self.dense, self.pads)))",
        "return Concat((self._placed(self.dense, self.pads), self._placed(self.point, pads)))",
    ),
    "dilated: centred as if undilated": (
        Dilated,
        blocks.dilated.Dilated.branches,
        "span = rate * (size - 1) + 1",
        "span = size",
    ),
    "dilated: a norm forgotten": (Dilated, blocks.dilated.Dilated.branches, ", self._after(norm))", ")"),
    "qarepvgg: alpha forgotten": (
        QARepVGG,
        blocks.qarepvgg.QARepVGG.branches,
        "self.alpha.expand",
        "(0 * self.alpha + 1).expand",
    ),
    "qarepvgg: no norm after the sum": (QARepVGG, blocks.qarepvgg.QARepVGG.op, "self._after(self.post_norm), ", ""),
    "orepa: two factors exchanged": (OREPA, blocks.orepa.OREPA.op, "self._scaled(3,", "self._scaled(5,"),
    "orepa: the prior along one axis only": (
        OREPA,
        blocks.orepa.OREPA._cosines,
        "axis = axes[o // share]",
        "axis = axes[0]",
    ),
    "orepa: a dead frequency": (
        OREPA,
        blocks.orepa.OREPA._cosines,
        "((o % share + 1) % k)",
        "(o % share + 1 + (o % share == 1) * (k - 2))",
    ),
    "ecb: padding after the biased 1x1": (
        ECB,
        blocks.ecb.ECB._others,
        "before, after = self._split_pads()",
        "after, before = self._split_pads()",
    ),
    "ecb: a mask without its factor": (
        ECB,
        blocks.ecb.ECB._others,
        "1, 1, 1) * getattr(self, name)",
        "1, 1, 1).sign() * getattr(self, name)",
    ),
    "ecb: no identity": (ECB, blocks.ecb.ECB._others, "if self.identity:", "if False:"),
}


def typical(suite: type[BlockSuite]) -> tuple[Case, Any]:
    case = suite().make()
    if suite is PSConv:  # two groups, so that blocks may stray
        arguments = {**case.arguments, "in_channels": 8, "out_channels": 8, "groups": 2}
        case = Case(case.block, 2, arguments, case.options, (9, 10), 5, folded=case.folded)
    return case, suite.oracle


@pytest.mark.parametrize("suite", sorted({fault[0] for fault in FAULTS.values()}, key=lambda s: s.__name__))
def test_the_contract_passes_on_the_blocks_as_they_are(suite: type[BlockSuite]) -> None:
    check(*typical(suite))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(fault: str) -> None:
    suite, function, old, new = FAULTS[fault]
    with planted(function, old, new), pytest.raises((AssertionError, RuntimeError)):
        check(*typical(suite))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self.linear.op() >> self._flat(read(self.norm))", "self.linear.op()"),
        ("depthwise >> read(norm)", "depthwise"),
        ("Conv(conv.weight,", "Conv(conv.weight.flip(3),"),
        ("in zip(self.local, self.local_norms, strict=True)", "in list(zip(self.local, self.local_norms))[:1]"),
    ],
)
def test_a_fault_in_the_perceptron_is_noticed(old: str, new: str) -> None:
    check_partition(PARTITION)
    with planted(Perceptron.op, old, new), pytest.raises((AssertionError, RuntimeError)):
        check_partition(PARTITION)
