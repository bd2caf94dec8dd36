"""From what was asked to the model and its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from convfold.algebra import twin
from convfold.cost import counted
from convfold.errors import InvalidArgument
from convfold.graph import flow_of
from convfold.plan.emit import replace_module
from convfold.transform.decompose.asked import Asked
from convfold.transform.decompose.choose import choose, recorded
from convfold.transform.decompose.data_work import DataWork
from convfold.transform.decompose.frame import Call, Frame, Rank
from convfold.transform.decompose.layer import Layer, read_layer, refusal, row_of
from convfold.transform.decompose.passes import collect, measure
from convfold.transform.decompose.pick import spend
from convfold.transform.decompose.ranks import above, rank_for, ranks_by_layer
from convfold.transform.decompose.report import Report, Row
from convfold.transform.decompose.work import Outcome, Work
from convfold.transform.layers import Where

__all__ = ["run"]


def run(model: nn.Module, asked: Asked, where: Where) -> tuple[nn.Module, Report]:
    """The decomposed copy and its report. Raises InvalidArgument for what this model cannot give."""
    modules = choose(model, where)
    sizes = asked.example_inputs if asked.example_inputs is not None else _one(asked)
    calls = recorded(model, sizes, list(modules)) if asked.sizes_known else {}
    exposed = flow_of(model, sizes).exposed
    found: dict[str, str | Outcome] = {}
    layers: dict[str, Layer] = {}
    for path, module in modules.items():
        reason = refusal(model, module, path in exposed)
        if not reason and asked.sizes_known and path not in calls:
            reason = "it does not run on the example inputs"
        if not reason:
            layers[path] = read_layer(path, module)
            reason = asked.method.unsuited(layers[path].shape)
        if reason:
            layers.pop(path, None)
            found[path] = reason
    order = [path for path in calls if path in layers] or list(layers)
    works = _works(model, asked, {path: layers[path] for path in order}, calls)
    found |= _decided(model, asked, works, list(modules), sizes)
    changed, outcomes = _replaced(model, asked, works, found)
    return changed, _report(model, asked, modules, works, outcomes, calls, sizes)


def _one(asked: Asked) -> object:
    """One sample of the data as example inputs."""
    if asked.samples is None:
        return None
    one = asked.samples.one
    return dict(one.kwargs) if one.kwargs else one.args


def _works(
    model: nn.Module, asked: Asked, layers: Mapping[str, Layer], calls: Mapping[str, list[Call]]
) -> dict[str, Work]:
    if asked.samples is None:
        return {path: Work(layer, asked.method, calls.get(path, [])) for path, layer in layers.items()}
    moments = collect(model, layers, asked.samples)
    return {path: DataWork(layer, asked.method, calls[path], moments[path]) for path, layer in layers.items()}


def _decided(
    model: nn.Module, asked: Asked, works: Mapping[str, Work], paths: list[str], sizes: object
) -> dict[str, str | Outcome]:
    if asked.rank is not None:
        return _by_rank(asked, works, paths)
    if asked.max_error is not None:
        gate = asked.only_cheaper is not False
        return {path: work.within(asked.max_error, gate) for path, work in works.items()}
    offers = {path: work.offers() for path, work in works.items()}
    most = None
    if asked.target_macs is not None:
        whole = counted(model, sizes).macs
        target = asked.target_macs if isinstance(asked.target_macs, int) else int(asked.target_macs * whole)
        fixed = whole - sum(work.before for work in works.values())
        least = fixed + sum(min(offer.macs for offer in choices) for choices in offers.values())
        if target < least:
            raise InvalidArgument(
                f"{asked.method.name} cannot bring the model to so few MACs", where="target_macs",
                got=f"{target:,}", expected=f"at least {least:,} of its {whole:,}",
            )  # fmt: skip
        most = target - fixed
    picked = spend(offers, most_macs=most, most_error=asked.total_error)
    kept = "the budget is spent better elsewhere"
    none = "no rank has fewer MACs than the layer itself"
    return {
        path: works[path].finish(offer.frame) if offer.frame else kept if len(offers[path]) > 1 else none
        for path, offer in picked.items()
    }


def _by_rank(asked: Asked, works: Mapping[str, Work], paths: list[str]) -> dict[str, str | Outcome]:
    named = isinstance(asked.rank, dict)
    ranks: Mapping[str, object]
    ranks = (
        ranks_by_layer(asked.rank, paths, asked.method)
        if isinstance(asked.rank, dict)
        else dict.fromkeys(paths, asked.rank)
    )
    gate = asked.only_cheaper if asked.only_cheaper is not None else not (named or paths == [""])
    found: dict[str, str | Outcome] = {}
    high: dict[str, str] = {}
    for path, work in works.items():
        if path not in ranks:
            found[path] = "no rank was given for it"
            continue
        rank = rank_for(ranks[path], work.layer.shape, asked.method)
        if reason := above(rank, work.layer.shape, asked.method):
            high[path] = found[path] = reason
            if named:
                raise InvalidArgument(reason, where=path or "the layer")
            continue
        found[path] = _at_rank(work, rank, gate)
    if high and len(high) == len(works):
        path, reason = next(iter(high.items()))
        raise InvalidArgument(reason, where=path or "the layer", hint="Give a rank up to the full one.")
    return found


def _at_rank(work: Work, rank: Rank, gate: bool) -> str | Outcome:
    frame: Frame = work.of_rank(work.method.at(work.layer.shape, rank))
    macs = work.macs(frame)
    if gate and macs >= work.before:
        return f"rank {rank} is not cheaper: {macs:,} MACs for {work.before:,}"
    return work.finish(frame)


def _replaced(
    model: nn.Module, asked: Asked, works: Mapping[str, Work], found: dict[str, str | Outcome]
) -> tuple[nn.Module, dict[str, str | Outcome]]:
    """The copy with rows of convolutions in the places of layers, and outcomes with errors measured in it."""
    changed, outcomes = twin(model), dict(found)
    modes = {path: module.training for path, module in changed.named_modules()}
    rows: dict[str, nn.Module] = {}
    compressed = asked.inputs == "compressed"
    for path, work in works.items():
        outcome = found[path]
        if isinstance(outcome, str):
            continue
        if compressed and asked.samples is not None:
            moments = collect(model, {path: work.layer}, asked.samples, changed.eval())[path]
            outcome = DataWork(work.layer, work.method, work.calls, moments).finish(outcome.frame)
        rows[path] = row_of(work.layer, outcome.frame.parts, outcome.weights, outcome.bias)
        if compressed and asked.samples is not None:
            error = measure(model, {path: rows[path]}, asked.samples, changed.eval())[path]
            outcome = replace(outcome, error=error)
        outcomes[path] = outcome
        changed = replace_module(changed, path, rows[path])
    for path, module in changed.named_modules():
        if path in modes:
            module.training = modes[path]
    if asked.samples is not None and not compressed and rows:
        for path, error in measure(model, rows, asked.samples).items():
            outcome = outcomes[path]
            assert isinstance(outcome, Outcome)
            outcomes[path] = replace(outcome, error=error)
    return changed, outcomes


def _report(
    model: nn.Module,
    asked: Asked,
    modules: Mapping[str, nn.Module],
    works: Mapping[str, Work],
    outcomes: Mapping[str, str | Outcome],
    calls: Mapping[str, list[Call]],
    sizes: object,
) -> Report:
    rows = []
    for path, module in modules.items():
        outcome, work = outcomes[path], works.get(path)
        before = work.before if work is not None else 0
        kind = repr(module) if not list(module.children()) else type(module).__name__
        if isinstance(outcome, str):
            rows.append(Row(path, asked.method.name, None, 0.0, 0.0, before, before, kind, reason=outcome))
            continue
        assert work is not None
        rows.append(
            Row(
                path,
                asked.method.name,
                outcome.frame.rank,
                outcome.bound,
                outcome.error,
                before,
                work.macs(outcome.frame),
                kind,
                outcome.frame.form,
                fitted=outcome.fitted,
                validation=outcome.validation,
                held_out=outcome.held_out,
            )
        )
    total = counted(model, sizes).macs if asked.sizes_known else sum(row.macs_before for row in rows)
    saved = sum(row.macs_before - row.macs_after for row in rows)
    samples = None if asked.samples is None else asked.samples.counts
    return Report(tuple(rows), total, total - saved, not asked.sizes_known, samples)
