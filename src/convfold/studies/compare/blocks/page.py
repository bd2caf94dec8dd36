"""The report of the comparison of blocks: which text, tables and figures stand on the page."""

from __future__ import annotations

from convfold.report import Code, Fact, Page, Section, Table, Text
from convfold.studies.compare.blocks.arms import PLAIN
from convfold.studies.compare.blocks.results import EARLY, END, Results
from convfold.studies.compare.blocks.sections import overview, task_section
from convfold.studies.compare.blocks.verdicts import verdicts
from convfold.studies.compare.blocks.words import found, headline, limits

__all__ = ["page"]


def page(results: Results) -> Page:
    """The report on `results`."""
    sections = [overview(results), _what_was_done(results)]
    sections += [task_section(results, END, task) for task in results.tasks]
    sections += [task_section(results, EARLY, task) for task in results.tasks]
    sections += [_costs(results), _again(results)]
    sections.insert(-1, Section("limits", "What this data does not show", [Text(limits(results), listed=True)]))
    return Page(
        title="Do blocks help, at one deployed network?",
        eyebrow="convfold compare blocks",
        lead=headline(results),
        facts=_facts(results),
        sections=sections,
        footer="Made by convfold. This page is one file: it loads nothing and sends nothing.",
    )


def _facts(results: Results) -> list[Fact]:
    ranked = sum(len(results.each(task)) for task in results.tasks)
    tuned = sum(
        len(results.arms[task]) * len(results.settings[task].rates) * results.settings[task].tuning_seeds
        for task in results.tasks
    )
    each = [v for task in results.tasks for v in verdicts(results, END, task)]
    return [
        Fact(f"{ranked:,}", f"networks compared: {len(results.blocks)} blocks, {len(results.tasks)} tasks"),
        Fact(f"{tuned:,}", "networks trained before to choose learning rates"),
        Fact(f"{len(found(each, 'real'))} / {len(each)}", "arms of blocks that differ, beyond initial scale"),
        Fact(f"{len(found(each, 'scale'))}", "differences that initial scale gives too"),
        Fact(f"{len(found(each, 'unclear'))}", "differences not told apart from initial scale"),
        Fact(f"{len(found(each, 'open'))}", "differences not resolved"),
    ]


def _what_was_done(results: Results) -> Section:
    told = [
        "Each block stood in place of every convolution of a plain network, was trained, and was folded back: what is "
        "measured is the folded network, of plain's architecture, in every run certified equal to the trained one and "
        "counted anew.",
        "Most arms of blocks start at the very function of the plain network of the same seed. “Own start” is the "
        "initialisation that the block was published with, where it is another than plain's. Then the outputs of its "
        "layers may be of another scale; “plain at its scale” is the plain network whose layers are multiplied, one by "
        "one (gamma where there is a batch normalisation, else kernel and bias), until their outputs deviate as much "
        "as those of the block's network of the same seed, measured on training images.",
        "Further controls are plain networks whose gammas start at √3, about three summed branches, where there is no "
        "batch normalisation He's variance, and in the deep network also the identity added to the kernels (Dirac). In "
        "the deep network the equal starts are at He's variance, and held against plain there.",
        "The learning rate of every arm is chosen by one rule: the least mean validation loss, over seeds that are not "
        "compared. It falls along half a cosine, for SGD after a warm-up (momentum 0.9, decay 1e-4 on kernels). "
        "All arms of a seed have the plain network's draws in common and see the same batches.",
        "Tests are Student's paired test over seeds. Holm's correction is made over four families: blocks against "
        f"their references ({len(results.claims[END])} comparisons), and controls against references and blocks "
        f"against controls ({len(results.scales[END])}), each once for the end and once for the beginning of training.",
    ]
    rows = []
    for task in results.tasks:
        of, settings = results.task(task), results.settings[task]
        recipe = of.settings()
        kind = "Adam" if task == "sr" else "SGD"
        length = f"{settings.length} steps" if task == "sr" else f"{settings.length} epochs"
        shape = f"{recipe['depth']} convolutions" if "depth" in recipe else "3 convolutions with BN"
        start = results.mean(task, PLAIN, lambda run: run["initial_loss"])
        many = f"{settings.seeds}"
        rows.append(
            [of.title, shape, f"{settings.width}", kind, length, f"{settings.batch_size}", many, f"{start:.3f}"]
        )
    columns = ["task", "plain network", "width", "optimiser", "length", "batch", "seeds", "first loss"]
    return Section("setting", "What was done", [Text(told), Table(columns, rows, "The tasks"), _scales(results)])


def _scales(results: Results) -> Table:
    """How large the outputs of the first and the last layer are at the start, arm by arm."""
    names = list(dict.fromkeys(arm.name for task in results.tasks for arm in results.arms[task].values()))
    rows = []
    for name in names:
        label = next(results.arms[task][name].label for task in results.tasks if name in results.arms[task])
        cells = [label.removesuffix(" from He")]
        for task in results.tasks:
            found = results.deviations(task, name) if name in results.arms[task] else []
            cells.append(f"{found[0]:.2g}, {found[-1]:.2g}" if found else "")
        rows.append(cells)
    columns = ["arm", *(results.task(task).title for task in results.tasks)]
    caption = (
        "Initial scale: deviation of the outputs of the first and the last layer on training images, mean over seeds"
    )
    return Table(columns, rows, caption)


def _costs(results: Results) -> Section:
    rows = []
    for name in results.blocks:
        cells = [name]
        for task in results.tasks:
            ratio = results.times[task].ratios[name]
            cells.append(f"×{ratio.median:.2f}")
        rows.append(cells)
    noise = [f"{results.times[t].control.low:.2f} to {results.times[t].control.high:.2f}" for t in results.tasks]
    rows.append(["plain against plain (middle half)", *noise])
    counted = [results.of(task, PLAIN)[0]["deployed"] for task in results.tasks]
    rows.append(["deployed MACs", *(f"{each['macs']:,}" for each in counted)])
    rows.append(["deployed parameters", *(f"{each['params']:,}" for each in counted)])
    folds, starts, unequal = results.certified("folded"), results.certified("started"), results.unequal
    held = (
        f"All {folds:,} folds and all {starts:,} equal starts are certified, and every folded network counts plain's "
        "MACs and parameters."
        if not unequal
        else f"Not certified equal, or of other cost: {len(unequal)} runs ({', '.join(unequal[:5])}). Their figures "
        "are not to be trusted."
    )
    said = [
        "A training step of the wide network over plain's, in CPU time on one thread, taken in turns, the median over "
        "rounds. Blocks without batch statistics train in kernel mode. These networks are small, so much of a step is "
        "Python's own.",
        held,
    ]
    table = Table(["block", *(results.task(task).title for task in results.tasks)], rows, "Time of a training step")
    return Section("cost", "What it costs", [Text(said), table])


def _again(results: Results) -> Section:
    tables = []
    for task in results.tasks:
        rows = []
        for name, arm in results.arms[task].items():
            seen = results.validation[task, name]
            shown = ["–" if seen[rate] is None else f"{seen[rate]:.4g}" for rate in results.settings[task].rates]
            rows.append([arm.label, f"{results.rates[task, name]:g}", *shown])
        columns = ["arm", "chosen", *(f"{rate:g}" for rate in results.settings[task].rates)]
        loss = "minus PSNR in dB" if task == "sr" else "cross-entropy"
        caption = f"{results.task(task).title}: mean validation loss ({loss}) at each learning rate"
        tables.append(Table(columns, rows, caption))
    versions = [[name, version] for name, version in results.versions.items()]
    said = (
        "The command gives the same networks again; it goes on from finished runs. Folded networks of seed 0 are kept."
    )
    return Section(
        "again",
        "Do it again",
        [Text([said]), Code(results.command), *tables, Table(["package", "version"], versions)],
    )
