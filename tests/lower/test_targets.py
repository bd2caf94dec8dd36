"""Targets: named, numbered, in files, in code; and every way in which one can be wrong."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convfold import errors
from convfold.transform.lower import (
    Channels,
    Dilation,
    MaxKernel,
    Padding,
    Pointwise,
    Target,
    Transposed,
    find_target,
    lower,
    targets,
)
from convfold.transform.lower.rules import RULES

X = torch.randn(1, 4, 9, 10)


def test_every_target_says_what_it_is_for_and_every_rule_is_used() -> None:
    assert "no-1x1" in targets()
    found = [find_target(name) for name in targets()]
    assert all(target.about and target.name == name for target, name in zip(found, targets(), strict=True))
    assert {rule.name for target in found for rule in target.rules} == set(RULES)


def test_every_rule_tells_its_law() -> None:
    for rule in RULES.values():
        assert "``" in (rule.__doc__ or ""), rule


def test_a_number_at_the_end_is_the_parameter() -> None:
    assert find_target("max-kernel-5").rules == (MaxKernel(5),)
    assert find_target("channels-32").rules == (Channels(32),)
    assert find_target("matrix-unit-4").rules[-1] == Channels(4)
    assert find_target("max-kernel-5").name == "max-kernel-5"


def test_targets_of_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "chip.toml"
    path.write_text('about = "my chip"\n[[rule]]\nname = "pointwise"\nlinear = false\n[[rule]]\nname = "square"\n')
    target = find_target(path)
    assert (target.name, target.about, target.rules[0]) == ("chip", "my chip", Pointwise(linear=False))
    model = nn.Sequential(nn.Conv2d(4, 6, 1), nn.Conv2d(6, 3, (1, 3)))
    for given in (str(path), path, target):
        lowered = lower(model, X, given)
        assert {m.kernel_size for m in lowered.modules() if isinstance(m, nn.Conv2d)} == {(2, 2), (3, 3)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[rule", "this is no target"),
        ("", r"a target holds \[\[rule\]\] tables"),
        ("rule = 3", r"a target holds \[\[rule\]\] tables"),
        ("rule = [3]", r"a target holds \[\[rule\]\] tables"),
        ("rules = 3", "a target has other keys: got rules"),
        ('about = 3\n[[rule]]\nname = "square"', "about and number of a target are texts"),
        ("[[rule]]\nsize = 3", "no rule of this name: got None"),
        ('[[rule]]\nname = "pointwize"', r"no rule of this name: got 'pointwize'.*Did you mean pointwise\?"),
        (
            '[[rule]]\nname = "square"\nsize = 3',
            "square has no parameter of this name: got size, expected none",
        ),
        ('[[rule]]\nname = "max-kernel"\nsise = 3', "no parameter of this name: got sise, expected any of size, stack"),
        ('[[rule]]\nname = "max-kernel"\nsize = "3"', "size is of the wrong type: got '3', expected int"),
        ('[[rule]]\nname = "max-kernel"\nsize = true', "size is of the wrong type: got True, expected int"),
        ('[[rule]]\nname = "max-kernel"\nsize = 0', "rule 1: the rule max-kernel cannot have this size: got 0"),
        ('[[rule]]\nname = "dilation"\nby = "magic"', "the rule dilation knows no such way: got 'magic'"),
        ('[[rule]]\nname = "transposed"\nby = "magic"', "the rule transposed knows no such way: got 'magic'"),
        ('[[rule]]\nname = "padding"\nwhich = "some"', "the rule padding knows no such padding: got 'some'"),
        ('[[rule]]\nname = "grouping"\nwidth = -1', "the rule grouping cannot have this width: got -1"),
        ('[[rule]]\nname = "channels"\nmultiple = 0', "the rule channels cannot have this multiple: got 0"),
    ],
)
def test_wrong_files_end_in_a_sentence(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "chip.toml"
    path.write_text(text)
    with pytest.raises(errors.ConvfoldError, match=said) as caught:
        find_target(path)
    assert "chip.toml" in str(caught.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(errors.FileProblem, match="this is no target"):
        find_target("nowhere.toml")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no1x1", r"unknown target: got 'no1x1', expected one of .*Did you mean no-1x1"),
        ("no-depthwize", "Did you mean no-depthwise"),
        ("no-dilation-4", "Did you mean no-dilation"),
        ("zzzz", "unknown target: got 'zzzz'"),
        ("channels-0", "the rule channels cannot have this multiple: got 0"),
    ],
)
def test_unknown_names_offer_the_nearest(name: str, said: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=said):
        lower(nn.Conv2d(4, 4, 1), X, name)


@pytest.mark.parametrize("wrong", [3, None, ["no-1x1"]])
def test_what_is_no_target(wrong: Any) -> None:
    with pytest.raises(errors.InvalidType, match="this is no target"):
        lower(nn.Conv2d(4, 4, 1), X, wrong)


@pytest.mark.parametrize("rules", [(), ("pointwise",)])
def test_a_target_without_rules(rules: Any) -> None:
    with pytest.raises(errors.InvalidArgument, match="a target holds rules"):
        Target("mine", rules)


@pytest.mark.parametrize("make", [lambda: Padding("x"), lambda: Dilation(by="x"), lambda: Transposed(by="x")])
def test_rules_in_code_check_their_parameters(make: Any) -> None:
    with pytest.raises(errors.InvalidArgument, match="knows no such"):
        make()


def test_a_target_that_no_rule_reaches() -> None:
    impossible = Target("impossible", (Pointwise(), MaxKernel(1)))
    with pytest.raises(errors.InvalidArgument, match=r"impossible is not reached.*its rules undo each other"):
        lower(nn.Conv2d(1, 1, 1), torch.randn(1, 1, 5, 5), impossible)


def test_not_a_model_and_not_its_inputs() -> None:
    with pytest.raises(errors.InvalidType, match="lower rewrites modules"):
        lower(3, X, "no-1x1")  # type: ignore[call-overload]
    with pytest.raises(errors.InvalidType, match="example inputs"):
        lower(nn.Conv2d(4, 4, 1), None, "no-1x1")
    with pytest.raises(errors.InvalidArgument, match="does not run"):
        lower(nn.Conv2d(5, 4, 1), X, "no-1x1")
