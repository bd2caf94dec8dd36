"""The report of a super-resolution study: which text, tables, pictures and plots stand on the page."""

from __future__ import annotations

import base64
import statistics
from collections.abc import Sequence
from html import escape
from pathlib import Path

from convfold.report import Code, Curve, Dots, Fact, Figure, Figures, Page, Section, Table, Text, curves, dots
from convfold.studies.sr.results import PSNR, SSIM, Against, Results, column
from convfold.studies.sr.runs import PLAIN, stretch
from convfold.studies.sr.words import between, gap, headline, limits, verdicts
from convfold.studies.words import p_text, signed
from convfold.train.sr import CREDITS

__all__ = ["page"]


def page(results: Results, pictures: Sequence[tuple[str, Path]]) -> Page:
    """The report on `results`, with the side-by-side pictures (caption, PNG file) that were written."""
    sections = [_setting(results), _pictures(results, pictures), _quality(results)]
    if results.blocks:
        sections.append(_against(results))
    sections += [_learning(results), _shipping(results)]
    sections.append(Section("limits", "What this data does not show", [Text(limits(results), listed=True)]))
    done = "enlarged" if results.settings.scale > 1 else "restored"
    return Page(
        title=f"Photographs {done}, plain and wide",
        eyebrow="convfold train sr",
        lead=headline(results),
        facts=_facts(results),
        sections=[*sections, _again(results)],
        footer="Made by convfold. This page is one file: it loads nothing and sends nothing.",
    )


def _role(arm: str) -> str:
    return "plain" if arm == PLAIN else "accent"


def _task(results: Results) -> str:
    settings = results.settings
    what = {
        "bicubic": f"made {settings.scale} times smaller with an antialiased cubic",
        "noise": f"given Gaussian noise of deviation {settings.degradation.sigma * 255:g}/255",
        "moire": "given moire: the product of two gratings of nearly one frequency",
    }[settings.degrade]
    if settings.degrade != "bicubic" and settings.scale > 1:
        what = f"made {settings.scale} times smaller and {what}"
    return what


def _facts(results: Results) -> list[Fact]:
    arm = max(results.arms, key=lambda one: results.spread(one, results.best[one]).mean)
    best = results.spread(arm, results.best[arm]).mean
    folds, starts = results.certificates, results.starts
    return [
        Fact(f"{len(results.runs)}", f"networks trained: {len(results.arms)} arms, {len(results.rates)} rates, "
             f"{len(results.seeds)} {'seed' if len(results.seeds) == 1 else 'seeds'}"),
        Fact(f"{results.floor:.2f} dB", "without a network, held-out pictures"),
        Fact(f"{best:.2f} dB", f"{arm}, the highest mean"),
        Fact(f"{sum(c['equal'] for c in folds)} / {len(folds)}", "folds certified equal"),
        Fact(f"{sum(c['equal'] for c in starts)} / {len(starts)}", "expansions that start as the plain network"),
    ]  # fmt: skip


def _setting(results: Results) -> Section:
    settings, recipe = results.settings, results.settings.recipe
    named = {part: ", ".join(names) for part, names in results.parts.items()}
    text = [
        f"Luminance of photographs is {_task(results)}; a network of {settings.depth} convolutions 3×3 with "
        f"{settings.width} channels, PReLU between them and a pixel shuffle learns what was lost. Each arm is that "
        "plain network with every convolution written as a block, started so that it computes what the plain network "
        "of the same seed computes, and folded after training: all arms ship the same architecture.",
        f"One rule for all: {recipe.steps} steps of Adam on {recipe.batch_size} crops of {recipe.patch}×{recipe.patch} "
        "pixels of what the network is given, turned and mirrored, mean "
        f"{'absolute' if recipe.loss == 'l1' else 'square'} error, a learning rate that falls to zero along a cosine. "
        "Arms of one seed see the same crops.",
        f"Trained on: {named['train']}. A learning rate is chosen by: {named['validate']}. Held out: {named['test']}.",
    ]
    if results.skipped:
        count = len(results.skipped)
        text.append(f"{count} {'file was' if count == 1 else 'files were'} skipped: {' '.join(results.skipped)}")
    return Section("setting", "What was done", [Text(text)])


def _pictures(results: Results, pictures: Sequence[tuple[str, Path]]) -> Section:
    seed = results.seeds[0]
    said = (
        f"Networks of seed {seed}, each at its own best learning rate; the square is where the picture without a "
        "network is furthest from the truth. PSNR and SSIM are of the whole picture."
    )
    figures = [Figure(_embedded(file, caption), caption) for caption, file in pictures]
    return Section("pictures", "Side by side", [Text([said]), Figures(figures)])


def _embedded(file: Path, caption: str) -> str:
    content = base64.b64encode(file.read_bytes()).decode()
    return f'<img src="data:image/png;base64,{content}" alt="{escape(caption, quote=True)}">'


def _quality(results: Results) -> Section:
    rows, shown = [], []
    for rate in results.rates:
        for arm in results.arms:
            psnr, ssim = results.spread(arm, rate), results.spread(arm, rate, SSIM)
            label = f"{arm}, {rate:g}"
            each = zip(*(column(run["test"], PSNR) for run in results.of(arm, rate)), strict=True)
            pictures = [f"{statistics.fmean(values):.2f}" for values in each]
            rows.append([label, f"{psnr.mean:.3f}", _ends(psnr.low, psnr.high), f"{ssim.mean:.4f}", *pictures])
            shown.append(Dots(label, _role(arm), results.values(arm, rate), psnr.mean, psnr.low, psnr.high))
    name = "bicubic" if results.settings.scale > 1 else "as given"
    similar = statistics.fmean(column(results.bicubic, SSIM))
    floor = [name, f"{results.floor:.3f}", "–", f"{similar:.4f}", *(f"{row[PSNR]:.2f}" for row in results.bicubic)]
    columns = ["arm, learning rate", "PSNR, dB", "95% interval", "SSIM", *results.parts["test"]]
    title = "Mean PSNR on the held-out pictures of each arm at each learning rate, one dot per seed."
    return Section(
        "quality",
        "Quality on held-out pictures",
        [
            Figures([Figure(dots("psnr", title, shown, "mean PSNR, dB"))], wide=True),
            Table(columns, [floor, *rows], f"Means over {_seeds(results)} and pictures; the last columns are PSNR"),
        ],
    )


def _against(results: Results) -> Section:
    shown = [
        Dots(_named(one), "accent", one.differences, one.psnr.mean, one.psnr.low, one.psnr.high)
        for one in results.against
    ]
    title = "Mean PSNR of each arm minus plain's of the same seed, with 95% intervals."
    rows = []
    for one in results.against:
        effect = one.effect
        size = "–" if effect.value is None else signed(effect.value)
        rows.append(
            [
                _named(one),
                gap(one.psnr.mean),
                between(one.psnr),
                f"{one.wins} / {len(one.differences)}",
                size,
                "–" if effect.low is None or effect.high is None else f"{signed(effect.low)} to {signed(effect.high)}",
                p_text(one.psnr.p),
                p_text(one.psnr.adjusted),
                f"{one.ssim.mean:+.4f}".replace("-", "−"),
            ]
        )
    columns = [
        "arm, learning rate",
        "dB",
        "95% interval",
        "seeds above",
        "d_z",
        "95% interval",
        "p",
        "p (Holm)",
        "SSIM",
    ]
    caption = (
        f"Each arm minus plain, paired over {_seeds(results)}; d_z: the mean difference over the deviation of the "
        f"differences; Holm's correction over {_counted(len({one.key for one in results.against}), 'comparison')}"
    )
    return Section(
        "against",
        "Does a block gain at equal starting weights?",
        [
            Text(verdicts(results), listed=True),
            Figures([Figure(dots("differences", title, shown, "dB above plain", zero=True))], wide=True),
            Table(columns, rows, caption),
        ],
    )


def _named(one: Against) -> str:
    return f"{one.arm}, best {one.rate:g} against {one.plain_rate:g}" if one.best else f"{one.arm}, {one.rate:g}"


def _learning(results: Results) -> Section:
    figures = []
    for arm in results.blocks or [PLAIN]:
        lines = [_curve(results, one) for one in dict.fromkeys([PLAIN, arm])]
        heading = f"{arm}, {results.best[arm]:g}"
        title = f"Training loss of {arm} and plain, each at its best learning rate."
        figures.append(Figure(curves(f"loss-{arm}", title, [("training loss", True, lines)], "step"), heading=heading))
    spread = "Line: median over seeds; band: all seeds." if len(results.seeds) > 1 else "One seed."
    return Section("learning", "Learning curves", [Text([spread]), Figures(figures)])


def _curve(results: Results, arm: str) -> Curve:
    columns = list(zip(*(run["losses"] for run in results.of(arm, results.best[arm])), strict=True))
    steps = results.settings.recipe.steps
    x = [min((i + 1) * stretch(steps), steps) for i in range(len(columns))]
    middle = [statistics.median(column) for column in columns]
    return Curve(arm, _role(arm), x, middle, [min(column) for column in columns], [max(column) for column in columns])


def _shipping(results: Results) -> Section:
    worst = max(results.certificates, key=lambda certificate: certificate["error"] / certificate["bound"])
    rows = []
    for arm in results.arms:
        runs = results.of(arm, results.best[arm])
        cost = results.costs[arm]
        rows.append(
            [
                arm,
                f"{runs[0]['parameters']:,}",
                f"{cost['parameters']:,}",
                f"{cost['macs_per_pixel']:,.0f}",
                f"{statistics.fmean(run['cpu_seconds'] for run in runs):.0f}",
                results.files[arm],
            ]
        )
    columns = ["arm", "parameters trained", "shipped", "MACs per pixel given", "CPU seconds of a run", "ONNX file"]
    said = (
        "Every fold was compared with the network it came from: the one nearest to its bound is off by "
        f"{worst['error']:.1e} of the largest output, allowed {worst['bound']:.1e}. The ONNX files take any height and "
        "width; convfold upscale runs them."
    )
    return Section("shipping", "What is shipped", [Text([said]), Table(columns, rows)])


def _again(results: Results) -> Section:
    said = "The command gives the same networks again; with --resume it goes on from what is finished."
    content: list[Text | Code | Table] = [Text([said]), Code(results.command)]
    content.append(Table(["package", "version"], [list(row) for row in results.versions.items()]))
    if results.settings.folder is None:
        rows = [[credit.name, credit.package, credit.part, credit.credit] for credit in CREDITS]
        content.append(Table(["photograph", "inside", "part", "credit"], rows, "Photographs"))
    return Section("again", "Do it again", content)


def _ends(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _seeds(results: Results) -> str:
    return _counted(len(results.seeds), "seed")


def _counted(number: int, noun: str) -> str:
    return f"one {noun}" if number == 1 else f"{number} {noun}s"
