"""Write the figures of README.md and README.zh-CN.md from results/, so that no figure there is typed by hand.

python docs/figures.py
"""

import json
from statistics import median
from typing import Any

from marked import ROOT, filled, results

READMES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh-CN.md"}
BEGIN, END = "<!-- {}: written by docs/figures.py -->", "<!-- end of {} -->"
# Of the models measured, those that the README shows.
SHOWN = (
    "repvgg_a0", "mobileone_s0", "fastvit_t8", "repvit_m1", "ghostnetv3_050", "efficientformer_l1", "densenet121",
    "mixnet_s", "inception_v3",
)  # fmt: skip


def _ratio(figure: dict[str, float]) -> str:
    return f"{figure['median']:.2f}"


def _rows(fold: list[dict[str, Any]], train: list[dict[str, Any]]) -> list[str]:
    """A row of ratios to the plain convolution for each block."""
    steps = {(row["block"], row["mode"], row["norm"]): row["time"] for row in train}
    rows = []
    for row in fold:
        name = row["block"]
        feature, own = steps.get((name, "feature", None)), steps.get((name, "kernel", None))
        scaled = steps.get((name, "kernel", "scale"))
        kernel = _ratio(own) if own else f"{_ratio(scaled)} \\*" if scaled else ""
        cells = [_ratio(row["wide"]), _ratio(row["folded"]), _ratio(feature) if feature else "", kernel]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return rows


BLOCKS = {
    "en": """\
One thread of a shared CPU; medians of ratios to the plain convolution, timed in turns (in training with its batch
normalisation and ReLU): a dense 3x3, for `dilated` a depthwise 13x13, for `mixconv` a depthwise 7x7. Plain against
itself: {low:.2f} to {high:.2f} (quartiles). The fold's largest error against float64 truth is {error:.1e}
of the largest output here, and {worst:.1e} over {tried:,} random configurations in 1-D to 3-D (`make deep`). The full
figures of `convfold bench fold` and `convfold bench train`, with their settings, stand in [results/](results).

| block | wide | folded | training step, feature mode | training step, kernel mode |
|---|---:|---:|---:|---:|
{rows}

\\* built with `norm="scale"`: batch statistics in the branches leave no kernel while training.""",
    "zh": """\
共享 CPU 上的单个线程；数值是与普通卷积耗时之比的中位数，交替计时（训练时连同批归一化和 ReLU 一起计）。\
普通卷积为稠密 3x3，`dilated` 对应深度卷积 13x13，`mixconv` 对应深度卷积 7x7。\
普通卷积与自身相比为 {low:.2f} 到 {high:.2f}（四分位数）。\
折叠结果与 float64 真值的最大误差，在此处为最大输出的 {error:.1e}，\
在 1-D 到 3-D 的 {tried:,} 组随机配置上为 {worst:.1e}（`make deep`）。\
`convfold bench fold` 与 `convfold bench train` 的全部数据及其设置见 [results/](results)。

| 模块 | 展开 | 折叠后 | 训练一步，特征模式 | 训练一步，卷积核模式 |
|---|---:|---:|---:|---:|
{rows}

\\* 以 `norm="scale"` 构建：分支中若使用批统计量，训练时就不存在等效卷积核。""",
}


def table(language: str = "en") -> str:
    """What was measured, in words and a table."""
    fold, train, deep = (results(f"{name}.json") for name in ("bench-fold", "bench-train", "deep-blocks"))
    ends = [row["control"][end] for row in fold["results"] for end in ("low", "high")]
    return BLOCKS[language].format(
        low=min(ends),
        high=max(ends),
        error=max(row["error_float64"] for row in fold["results"]),
        tried=sum(row["configurations"] for row in deep["rows"]),
        worst=max(row["worst_relative_fold_error"] for row in deep["rows"]),
        rows="\n".join(_rows(fold["results"], train["results"])),
    )


def _lines(name: str) -> dict[str, dict[str, Any]]:
    """The results of a log, by name; of two of one name the later."""
    lines = (ROOT / "results" / name).read_text().splitlines()
    return {record["name"]: record["result"] for record in map(json.loads, filter(None, lines))}


def _zoo_row(name: str, result: dict[str, Any]) -> str:
    cost = result["cost"]

    def cells(key: str, form: str = ",", scale: float = 1) -> str:
        found = [cost[who][key] / scale if who in cost else None for who in ("original", "timm", "convfold")]
        return " / ".join("-" if figure is None else f"{figure:{form}}" for figure in found)

    timed = (result.get("latency", {}).get("eager"), result.get("latency_onnxruntime"))
    times = ["-" if found is None else f"{found['original']['median']:.2f}" for found in timed]
    figures = [cells("convolutions", ",.0f"), cells("macs", ",.1f", 1e6), cells("operators", ",.0f"), *times]
    return f"| `{name}` | {' | '.join(figures)} |"


MODELS = {
    "en": """\
{count} models of timm and torchvision, statistics and scales drawn at random, folded from their source as it
is: none got dearer in MACs, convolutions or operators than it was or than timm's own `reparameterize_model` leaves
it. Largest error in float64 {worst:.1e} of the largest output; float32 error over the unfolded model's
{middle:.2f} at the median and {most:.2f} at most (timm's folds {their_middle:.2f} and
{their_most:.2f}). All lines of `convfold bench zoo` stand in [results/zoo.jsonl](results/zoo.jsonl).
Cells: original / timm's fold / convfold; last, the original's time over the fold's.

| model | convolutions | MMACs | operators | eager | ONNX Runtime |
|---|---:|---:|---:|---:|---:|
{rows}""",
    "zh": """\
timm 与 torchvision 的 {count} 个模型，统计量和缩放系数随机抽取，源码原样折叠：\
没有一个模型的 MAC、卷积数或算子数比折叠前更多，也没有一个比 timm 自带的 `reparameterize_model` 的结果更多。\
float64 下的最大误差为最大输出的 {worst:.1e}；\
float32 误差与未折叠模型的误差之比，中位数 {middle:.2f}，最大 {most:.2f}\
（timm 的折叠为 {their_middle:.2f} 和 {their_most:.2f}）。\
`convfold bench zoo` 的全部记录见 [results/zoo.jsonl](results/zoo.jsonl)。\
各格依次为：原模型 / timm 的折叠 / convfold；最后两列是原模型耗时与折叠后耗时之比。

| 模型 | 卷积数 | MMAC | 算子数 | eager | ONNX Runtime |
|---|---:|---:|---:|---:|---:|
{rows}""",
}


def zoo(language: str = "en", shown: tuple[str, ...] | None = SHOWN) -> str:
    """What folding named models gave, in words and a table; without `shown`, of all models of timm and torchvision."""
    results = _lines("zoo.jsonl")
    ratios = [result["float32_ratio"]["convfold"] for result in results.values()]
    theirs = [r["float32_ratio"]["timm"] for r in results.values() if "timm" in r["float32_ratio"]]
    wanted = (
        [name for name in results if name.startswith(("timm:", "torchvision:"))]
        if shown is None
        else [f"timm:{name}" for name in shown]
    )
    return MODELS[language].format(
        count=len(results),
        worst=max(result["error_float64"] for result in results.values()),
        middle=median(ratios),
        most=max(ratios),
        their_middle=median(theirs),
        their_most=max(theirs),
        rows="\n".join(_zoo_row(name if shown is None else name.partition(":")[2], results[name]) for name in wanted),
    )


SECTIONS = {"figures": table, "models": zoo}


def updated(readme: str, language: str = "en") -> str:
    """The README with the tables of today's results."""
    for name, written in SECTIONS.items():
        readme = filled(readme, BEGIN.format(name), END.format(name), written(language))
    return readme


if __name__ == "__main__":
    for language, path in READMES.items():
        path.write_text(updated(path.read_text(), language))
