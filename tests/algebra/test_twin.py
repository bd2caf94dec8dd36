"""Copies of models: of their own, with what was replaced replaced."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from convfold.algebra import twin


def test_a_copy_has_hooks_of_its_own() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU()))
    seen: list[str] = []
    model[0].register_forward_hook(lambda *_: seen.append("both"))
    copied = twin(model)
    copied[0].register_forward_hook(lambda *_: seen.append("copy"))
    copied[1][0].register_forward_pre_hook(lambda *_: seen.append("copy below"))
    model(torch.ones(1))
    assert seen == ["both"]
    copied(torch.ones(1))
    assert seen == ["both", "both", "copy", "copy below"]
    held = {id(value) for module in model.modules() for value in vars(module).values() if isinstance(value, dict)}
    again = {id(value) for module in copied.modules() for value in vars(module).values() if isinstance(value, dict)}
    assert held.isdisjoint(again)
    assert len(held) == len(again)


def test_what_a_model_shares_its_copy_shares() -> None:
    model = nn.Module()
    model.one = model.two = OrderedDict()  # type: ignore[assignment]
    model.other = OrderedDict()  # type: ignore[assignment]
    copied = twin(model)
    assert copied.one is copied.two
    assert copied.one is not copied.other
    assert copied.one is not model.one


def test_what_is_replaced_stays_replaced() -> None:
    model, instead = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Identity()
    hooks = OrderedDict({"mine": 1})
    copied = twin(model, {id(model[0]): instead, id(model[1]._forward_hooks): hooks})
    assert copied[0] is instead
    assert copied[1]._forward_hooks is hooks
