"""The study's report from its cells: tables, plots, every result and every command, as one page."""

import html
import os
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import study_plots
from study_page import PAGE, html_table, text
from study_plan import ROWS, Plan
from study_questions import POOL, QUESTIONS, Question
from study_statistics import Difference, Mean, Rates, Scatter, difference, mean_of, of_rows, paired, residual
from trial import ROWS as TRIAL_ROWS

from distill_user_dir.files import write_bytes

Cells = Dict[Tuple[str, int, int], Dict[str, Any]]
Compared = List[Tuple[str, str, int, Difference]]  # row, reference, utterances with labels, difference in WER
FAILED = 80.0  # a WER in per cent from which on a model has learned nothing
TRIAL = Question(
    "CTC distillation from a fine-tuned teacher, beside CTC on transcripts",
    [
        *((row, "ctc") for row in TRIAL_ROWS if row != "ctc"),
        *((row, "teacher") for row in TRIAL_ROWS if row != "ctc"),
        *((row, "frames") for row in TRIAL_ROWS if row not in ("ctc", "frames")),
    ],
    (),
)


def rates_of(cells: Cells, labelled: int) -> Rates:
    return {(row, seed): cell["wer"] for (row, seed, n), cell in cells.items() if n == labelled}


def budgets_of(cells: Cells) -> List[int]:
    return sorted({labelled for _, _, labelled in cells}, reverse=True)


def told(mean: Union[None, Mean, Difference]) -> str:
    return "not run" if mean is None else f"{mean.text()}, {mean.seeds} seed{'s' if mean.seeds > 1 else ''}"


def rows_table(cells: Cells, rows: Sequence[str]) -> List[List[str]]:
    """Of each row its size, and its WER: mean and 95% interval over seeds, and their deviation."""
    budgets = budgets_of(cells)
    lines = [["row", "parameters"]]
    for labelled in budgets:
        lines[0] += [f"WER %, {labelled} labelled", "deviation"]
    for row in rows:
        own = {key: cell for key, cell in cells.items() if key[0] == row}
        if not own:
            continue
        lines.append([row, f"{list(own.values())[0]['parameters'] / 1e6:.2f} M"])
        for labelled in budgets:
            mean = mean_of([cell["wer"] for (_, _, n), cell in own.items() if n == labelled])
            lines[-1] += [told(mean), "" if mean is None or mean.deviation is None else f"{mean.deviation:.1f}"]
    return lines


def scatter_of(wer: Rates, pool: Sequence[str]) -> Scatter:
    """Of a pool's results; those that have learned nothing tell nothing of the others."""
    return residual({key: rate for key, rate in of_rows(wer, pool).items() if rate < FAILED})


def compared(cells: Cells, question: Question) -> Compared:
    """All that is there, budget by budget. The question's pool tells how far results scatter; where a row is not of it,
    the two rows alone tell it."""
    budgets = {labelled: rates_of(cells, labelled) for labelled in budgets_of(cells)}
    scatters = {labelled: scatter_of(wer, question.pool) for labelled, wer in budgets.items()}
    found = []
    for row, reference in question.pairs:
        pooled = {row, reference} <= set(question.pool)
        for labelled, wer in budgets.items():
            change = difference(wer, row, reference, scatters[labelled]) if pooled else paired(wer, row, reference)
            if change is not None:
                found.append((row, reference, labelled, change))
    return found


def question_table(found: Compared) -> List[List[str]]:
    """Differences of WER in per cent of the reference's; the verdict by the interval."""
    lines = [["row", "beside", "labelled", "relative difference (95%)", "verdict"]]
    for row, reference, labelled, change in found:
        lines.append([row, reference, str(labelled), told(change), change.verdict])
    return lines


def scatter_table(cells: Cells) -> List[List[str]]:
    """For each budget how far the results of the study's pool scatter, and what was left out of it."""
    lines = [["labelled", "deviation of log WER", "degrees of freedom", "left out"]]
    for labelled in budgets_of(cells):
        wer = rates_of(cells, labelled)
        scatter = scatter_of(wer, POOL)
        failed = [f"{row}, seed {seed}" for (row, seed), rate in of_rows(wer, POOL).items() if rate >= FAILED]
        lines.append([str(labelled), f"{scatter.deviation:.3f}", str(scatter.freedom), "; ".join(failed) or "nothing"])
    return lines


def results_table(cells: Cells) -> List[List[str]]:
    lines = [["row", "seed", "labelled", "WER %", "95% interval", "words", "code", "machine"]]
    for (row, seed, labelled), cell in sorted(cells.items()):
        low, high = cell["wer_interval"]
        interval = f"{low:.1f} to {high:.1f}"
        numbers = [str(seed), str(labelled), f"{cell['wer']:.2f}", interval, str(cell["words"])]
        lines.append([row, *numbers, cell["code"], cell["machine"]])
    return lines


def picture(path: str, image: bytes) -> str:
    """Written, and for the page."""
    write_bytes(path, image)
    return study_plots.embedded(image)


def section(title: str, found: Compared, out: str) -> str:
    """A question's table and plot, or that nothing is there."""
    head = f"<h2>{html.escape(title)}</h2>"
    if not found:
        return f"{head}<p>not run yet</p>"
    plot = picture(f"{out}/{title.split('.')[0]}.png", study_plots.forest(found))
    return f"{head}{html_table(question_table(found))}{plot}"


def write(out: str, plan: Plan, rates: Cells, study: Cells, trial: Optional[Cells] = None) -> None:
    """OUT/report.html and its plots from the cells that are current, and the tables on the terminal."""
    cells, transcripts = study, trial or {}
    if not cells and not transcripts:
        print("there is no result yet")
        return
    answers = {f"{name}. {question.title}": compared(cells, question) for name, question in QUESTIONS.items()}
    answers[f"Q5. {TRIAL.title}"] = compared(transcripts, TRIAL)
    answers = dict(sorted(answers.items()))
    os.makedirs(out, exist_ok=True)
    commands = [command for cell in (*cells.values(), *transcripts.values()) for command in cell["commands"]]
    every = results_table({**cells, **{(f"trial: {row}", *key): cell for (row, *key), cell in transcripts.items()}})
    page = PAGE.format(
        finished=len(cells) + len(transcripts),
        table=html_table(rows_table(cells, ROWS)),
        curve=picture(f"{out}/curve.png", study_plots.curve(cells, plan.distil)) if cells else "",
        trial=html_table(rows_table(transcripts, ("teacher", *TRIAL_ROWS))),
        scatter=html_table(scatter_table(cells)),
        questions="\n".join(section(title, found, out) for title, found in answers.items()),
        rates=html_table(results_table(rates)),
        every=html_table(every),
        commands=html.escape("\n".join(dict.fromkeys(commands))),
    )
    write_bytes(f"{out}/report.html", page.encode())
    tables = {"": rows_table(cells, ROWS)}
    tables.update({title: question_table(found) for title, found in answers.items() if found})
    for title, lines in tables.items():
        print(f"\n{title}\n{text(lines)}" if title else f"\n{text(lines)}")
    print(f"\n{out}/report.html")
