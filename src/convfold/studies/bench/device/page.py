"""The report on a device: the roofline, the laws, and how far their predictions are off."""

from __future__ import annotations

from convfold.cost.device.law import ALL, COUNTED
from convfold.cost.device.work import KINDS
from convfold.report import Bar, Code, Fact, Figure, Figures, Page, Section, Table, Text, bars
from convfold.report.roofline import Series, roofline, shares
from convfold.studies.bench.device.study import FORMS, Comparison, Measured
from convfold.studies.bench.device.words import answer, headline, ratio, shown

__all__ = ["page", "picture"]

_GIGA = 1e9
_DEPTHWISE = FORMS[2]
# Each form's colour and marker: forms are told apart by either.
_LOOKS = dict(zip(FORMS, (("plain", "s"), ("ink", "^"), ("accent", "o"), ("control", "D")), strict=True))


def picture(measured: Measured) -> str:
    """The roofline of the compared layers, as inline SVG."""
    device, layers, layer = measured.device, measured.comparisons, shown(measured)
    series = [
        Series(form, *_LOOKS[form], [each.intensity(form) for each in layers], [each.attained(form) for each in layers])
        for form in FORMS
    ]
    at, attained = layer.intensity(_DEPTHWISE), layer.attained(_DEPTHWISE)
    roof = device.roof(at)
    remark = f"{ratio(roof / attained)}× below\nthe roof"
    slopes = [("memory", device.roofs.bandwidth), ("cache", device.roofs.cached)]
    title = (
        f"Roofline of {device.place}. Dense 3×3 convolutions lie near the roof of arithmetic, depthwise ones far left, "
        "under the slope of memory and below it."
    )
    drop = (remark, at, roof, attained) if roof > attained else None
    return roofline("roofline", title, device.roofs.peak, slopes, series, drop)


def page(measured: Measured, command: str) -> Page:
    """The report on one measurement, made by `command`."""
    device = measured.device
    law, macs = device.errors[COUNTED], measured.by_macs[COUNTED]
    return Page(
        title="Why depthwise is slower than its MACs say",
        eyebrow="convfold bench device",
        lead=headline(measured),
        facts=[
            Fact(f"{device.roofs.peak / _GIGA:,.0f} GFLOP/s", "most arithmetic seen"),
            Fact(f"{device.roofs.bandwidth / _GIGA:,.0f} GB/s", "from and to memory"),
            Fact(f"{device.ridge:.1f}", "FLOPs per byte where the two roofs meet"),
            Fact(
                f"×{law.median:.2f}", f"median miss of predicted seconds, {law.count} held-out convolutions, products"
            ),
            Fact(f"×{macs.median:.2f}", "median miss of seconds = a × MACs on the same shapes"),
        ],
        sections=[_why(measured), _laws(measured), _roofs(measured), _again(measured, command)],
        footer="Made by convfold. This page is one file: it loads nothing and sends nothing.",
    )


def _shares(measured: Measured) -> Figure:
    dense, lines = FORMS[0], []
    layer = shown(measured)
    others = [(each, _DEPTHWISE) for each in measured.comparisons if each is not layer]
    for each, form in [*((layer, form) for form in FORMS[1:]), *others]:
        start, end = each.macs(form) / each.macs(dense), each.seconds(form) / each.seconds(dense)
        label = f"{form}\n{each.channels} at {each.size}×{each.size}"
        lines.append(Bar(label, "accent" if form == _DEPTHWISE else "plain", start, end))
    title = "Multiply-accumulates and time of the cheaper forms, as shares of the dense form's."
    markup = shares("shares", title, lines, "share of the dense form's MACs (open) and time (filled)")
    caption = f"Were MACs latency, both ends would meet. On {_layer(layer)}; the depthwise form on the others too."
    return Figure(markup, caption, "Less work is not as much less time")


def _layer(each: Comparison) -> str:
    return f"{each.channels} channels at {each.size}×{each.size}"


def _why(measured: Measured) -> Section:
    caption = (
        f"One point for each layer of {', '.join(map(_layer, measured.comparisons))}, batch 1. Bytes are those of "
        "input, weight and output, once each; what lies in a cache may pass memory's slope."
    )
    rows = []
    for each in measured.comparisons:
        for form in FORMS:
            roof = measured.device.roof(each.intensity(form))
            rows.append(
                [
                    f"{form}, {_layer(each)}",
                    f"{each.macs(form) / 1e6:.2f}",
                    f"{each.seconds(form) * 1e6:,.0f}",
                    f"{each.intensity(form):.1f}",
                    f"{each.attained(form) / _GIGA:.0f}",
                    f"{roof / _GIGA:.0f}",
                    f"{each.attained(form) / roof:.0%}",
                    f"×{ratio(each.slower(form))}",
                ]
            )
    columns = ["layer", "MMACs", "µs", "FLOP/byte", "GFLOP/s", "roof", "of it", "slower than MACs say"]
    return Section(
        "why",
        "The answer",
        [
            Text(answer(measured)),
            Figures([Figure(picture(measured), caption, "Roofline"), _shares(measured)], wide=True),
            Table(columns, rows),
        ],
    )


def _laws(measured: Measured) -> Section:
    device, rows, lines = measured.device, [], []
    for kind in (*KINDS, COUNTED, ALL):
        own, macs, law = device.errors[kind], measured.by_macs.get(kind), device.laws.get(kind)
        terms = ["", "", ""] if law is None else [f"{law.overhead * 1e6:.1f}", _rate(law.byte), _rate(law.mac)]
        rows.append([kind, *terms, f"×{own}", f"×{own.most:.2f}", f"×{macs}" if macs else ""])
        if macs:
            lines.append(Bar(kind, "accent" if kind == COUNTED else "plain", macs.median, own.median))
    text = (
        "Seconds = overhead + bytes / bandwidth + MACs / rate, fitted to each kind of operator by itself, and held "
        f"against {device.errors[ALL].count} other shapes that no law was fitted to. Misses are factors, "
        "max(p/m, m/p): median (quartiles), and what one shape in ten exceeds. Beside them a × MACs, its a fitted to "
        "the same shapes: of each kind by itself (of bytes where nothing is multiplied); of all "
        "convolutions and products one a. Where bytes and MACs of a kind rise together, their two terms share what "
        "either could explain: their sum is meant, and a dash is a term of zero."
    )
    columns = ["kind", "overhead, µs", "GB/s", "GMAC/s", "miss", "9 of 10 within", "miss of a × MACs"]
    title = "Median miss of a prediction by kind: by MACs alone, and by the law."
    figure = Figure(
        bars("misses", title, lines, "median miss: a × MACs (open), overhead + bytes + MACs (filled)"),
        heading="How far predictions are off",
    )
    return Section(
        "laws", "Seconds of a layer, predicted", [Text([text]), Table(columns, rows), Figures([figure], wide=True)]
    )


def _rate(seconds: float) -> str:
    return f"{1 / seconds / _GIGA:.1f}" if seconds else "–"


def _roofs(measured: Measured) -> Section:
    roofs = measured.device.roofs
    rows = [
        [name, f"{rate / _GIGA:,.1f} {'GFLOP/s' if name.startswith(('matmul', 'dense')) else 'GB/s'}"]
        for name, rate in roofs.seen.items()
    ]
    text = (
        "The roofs are the best of what was tried: products of matrices and dense convolutions for arithmetic; copies "
        "and triads (a = b + s·c) for bandwidth, over arrays larger than the last cache and over some that fit a "
        f"small one. An operator with nothing to do takes {roofs.call * 1e6:.1f} µs."
    )
    return Section("roofs", "The roofs", [Text([text]), Table(["what", "reached"], rows)])


def _again(measured: Measured, command: str) -> Section:
    said = (
        f"Measured on {measured.device.place}; clock {measured.device.clock}; allocator {measured.allocator}. Medians "
        f"of {measured.effort.rounds} rounds in which operators take turns. In a round an operator runs over and over "
        "on the same values, so that maps that fit a cache lie in it, as they mostly do between layers of a network."
    )
    return Section("again", "Made by", [Text([said]), Code(command)])
