"""The study's results: a JSON of every single one, a plot of WER against label budget, and a report around them."""

import base64
import html
import io
import json
import logging
import os
import platform
import shlex
import statistics
import sys
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import fairseq
import torch
from steps import Step
from study_page import PAGE, html_table

from distill_user_dir.files import write_bytes
from distill_user_dir.student import load_student

REFERENCE = "deep_thin-reg"
PANELS = {  # starts of the rows' names; the teacher is in all
    "Losses, deep and thin": (REFERENCE, "deep_thin-codebook", "deep_thin-linear", "deep_thin-kmeans", "deep_thin-un"),
    "Structures": (REFERENCE, "deep_thin-codebook-soft", "shallow_wide"),
    "Front-ends": (REFERENCE, "deep_thin-fbank"),
}


class Result(NamedTuple):
    """One fine-tuned student, decoded: wer and cer in per cent, wer_interval by bootstrap over utterances; rtf: time of
    the decoding per time of audio."""

    row: str
    seed: int
    labelled: int
    wer: float
    wer_interval: Tuple[float, float]
    cer: float
    utterances: int
    rtf: float


class Summary(NamedTuple):
    """Over seeds: mean, sample standard deviation (None of one seed), number."""

    mean: float
    deviation: Optional[float]
    seeds: int

    def text(self, planned: int, form: str = ".1f") -> str:
        """Mean ± deviation, and the number of seeds where that is not `planned`."""
        deviation = "" if self.deviation is None else f" ± {self.deviation:.1f}"
        return f"{self.mean:{form}}{deviation}" + ("" if self.seeds == planned else f" ({self.seeds} of {planned})")


def summarise(values: Sequence[float]) -> Optional[Summary]:
    if not values:
        return None
    return Summary(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def read_results(plan: Any) -> List[Result]:
    """What has been decoded so far."""
    found = []
    for row, seed, labelled in plan.cells():
        path = f"{plan.folder(row, seed)}/ctc-{labelled}/test/wer.json"
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                scored = json.load(file)
            interval = tuple(scored["wer_interval"])
            rest = (scored["cer"], scored["utterances"], scored["rtf"])
            found.append(Result(row, seed, labelled, scored["wer"], interval, *rest))
    return found


def by_cell(results: Sequence[Result]) -> Dict[Tuple[str, int], Dict[int, float]]:
    """{(row, labelled): {seed: WER}}."""
    cells: Dict[Tuple[str, int], Dict[int, float]] = {}
    for result in results:
        cells.setdefault((result.row, result.labelled), {})[result.seed] = result.wer
    return cells


def differences(results: Sequence[Result], row: str, labelled: int) -> Optional[Summary]:
    """WER of a row minus that of the reference with the same seed and labels."""
    cells = by_cell(results)
    own, reference = cells.get((row, labelled), {}), cells.get((REFERENCE, labelled), {})
    return summarise([own[seed] - reference[seed] for seed in sorted(own.keys() & reference.keys())])


def table(plan: Any, results: Sequence[Result], sizes: Dict[str, int]) -> List[List[str]]:
    """Header and one line a row: parameters with the CTC layer, how many times faster than real time it was decoded
    (median), WER by budget, and its difference to the reference."""
    budgets, planned, cells = plan.budgets(), len(plan.seeds), by_cell(results)
    lines = [
        ["row", "parameters", "x real time"]
        + [f"WER % ({n})" for n in budgets]
        + [f"to {REFERENCE} ({n})" for n in budgets]
    ]
    for row in plan.rows:
        wers = [summarise(list(cells.get((row, n), {}).values())) for n in budgets]
        rtf = [result.rtf for result in results if result.row == row]
        deltas = [None if row == REFERENCE else differences(results, row, n) for n in budgets]
        lines.append(
            [
                row,
                f"{sizes[row] / 1e6:.2f} M" if row in sizes else "",
                f"{1 / statistics.median(rtf):.0f}" if rtf else "",
            ]
            + ["not run" if wer is None else wer.text(planned) for wer in wers]
            + ["" if delta is None else delta.text(planned, "+.1f") for delta in deltas]
        )
    return lines


def text(lines: List[List[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def plot(plan: Any, results: Sequence[Result]) -> bytes:
    """A PNG: WER against utterances with labels, mean over seeds, bars from the best to the worst seed."""
    import matplotlib

    matplotlib.use("Agg")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # fairseq sets the root logger to DEBUG
    from matplotlib import pyplot

    cells = by_cell(results)
    there = [row for row in plan.rows if any(name == row for name, _ in cells)]
    chosen = {title: [row for row in there if row.startswith((*names, "teacher"))] for title, names in PANELS.items()}
    chosen = {title: rows for title, rows in chosen.items() if set(rows) - {REFERENCE, "teacher"}} or {"": there}
    figure, panels = pyplot.subplots(1, len(chosen), figsize=(6 * len(chosen), 5), sharey=True, squeeze=False)
    panels = panels[0]
    for axes, (title, rows) in zip(panels, chosen.items()):
        for number, row in enumerate(rows):
            points = sorted((n, list(seeds.values())) for (name, n), seeds in cells.items() if name == row)
            means = [statistics.mean(values) for _, values in points]
            spread = [
                [m - min(v) for m, (_, v) in zip(means, points)],
                [max(v) - m for m, (_, v) in zip(means, points)],
            ]
            shifted = [n * 1.03**number for n, _ in points]
            axes.errorbar(shifted, means, yerr=spread, marker="o", markersize=4, capsize=3, label=row)
        axes.set(xscale="log", xlabel="utterances with labels", title=title)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small")
    panels[0].set_ylabel("word error rate (%)")
    figure.tight_layout()
    image = io.BytesIO()
    figure.savefig(image, dpi=120, format="png")
    pyplot.close(figure)
    return image.getvalue()


def settings(plan: Any, results: Sequence[Result]) -> List[Tuple[str, str]]:
    """How the results were made."""
    tested = max((result.utterances for result in results), default=0)
    return [
        (
            "data",
            f"synthesised spoken digits, {plan.train} training utterances, {tested} test utterances of unseen speakers",
        ),
        ("teacher", f"{plan.pretrain} updates of HuBERT's pre-training, 6 layers x 192 (recipes/demo/teacher.yaml)"),
        ("distillation", f"{plan.distil} updates of at most 10 s of audio, no transcripts; undistilled: none"),
        (
            "fine-tuning",
            f"{plan.ctc} updates of CTC of at most 10 s, whatever the budget, front-end frozen; "
            f"undistilled: {plan.distil + plan.ctc} of them",
        ),
        (
            "seeds",
            " ".join(map(str, plan.seeds)) + ": initialisation, batches, masks, and which utterances have labels",
        ),
        ("decoding", "Viterbi, no language model"),
        ("software", f"Python {platform.python_version()}, torch {torch.__version__}, fairseq {fairseq.__version__}"),
        ("machine", f"{platform.machine()}, {os.cpu_count()} cores"),
        ("command", shlex.join(["python", "recipes/demo/study.py", *sys.argv[1:]])),
    ]


def sizes_of(plan: Any, results: Sequence[Result]) -> Dict[str, int]:
    """Parameters of each row's fine-tuned model."""
    models = {result.row: f"{plan.folder(result.row, result.seed)}/ctc-{result.labelled}" for result in results}
    return {
        row: sum(
            parameter.numel() for parameter in load_student(f"{folder}/checkpoint_best.pt", folded=False).parameters()
        )
        for row, folder in models.items()
    }


def write(plan: Any, steps: Sequence[Step]) -> None:
    """OUT/study/report.html, results.json and wer_vs_labels.png from what is there, and the table on the terminal."""
    results = read_results(plan)
    os.makedirs(f"{plan.out}/study", exist_ok=True)
    lines = table(plan, results, sizes_of(plan, results))
    image = plot(plan, results)
    every = [["row", "seed", "labelled", "WER %", "95% interval", "CER %"]]
    for r in sorted(results):
        low, high = r.wer_interval
        every.append([r.row, r.seed, r.labelled, f"{r.wer:.2f}", f"{low:.1f} to {high:.1f}", f"{r.cer:.2f}"])
    page = PAGE.format(
        finished=len(results),
        total=len(plan.cells()),
        image=base64.b64encode(image).decode(),
        table=html_table(lines),
        reference=REFERENCE,
        settings=html_table(settings(plan, results), header=False),
        every=html_table(every),
        steps=len(steps),
        commands=html.escape("\n".join(command for step in steps for command in step.commands)),
    )
    content = {
        "settings": dict(settings(plan, results)),
        "results": [result._asdict() for result in results],
        "table": lines,
    }
    for name, data in (
        ("report.html", page.encode()),
        ("wer_vs_labels.png", image),
        ("results.json", json.dumps(content, indent=2).encode()),
    ):
        write_bytes(f"{plan.out}/study/{name}", data)
    print(f"\n{text(lines)}\n\n{plan.out}/study/report.html")
