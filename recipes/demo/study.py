"""The claims of distillation, tried: structures, losses and front-ends, by label budget, over several seeds.

    python recipes/demo/study.py                        # what is missing, into out/study, and the report
    python recipes/demo/study.py --rows 'shallow_wide-*' deep_thin-reg --seeds 1 2
    python recipes/demo/study.py --dry-run              # what would be run
    python recipes/demo/study.py --report               # the report alone

docs/study.md has the questions and the design. Each result is a cell, recipes/demo/cells/study/ROW/SEED-LABELLED.json,
and one whose commands and teacher are the same is not made again. Stage by stage, the learning rates of its rows are
chosen first, by the word error rate on the validation set: recipes/demo/cells/rates. Two trainings run at a time; what
was killed goes on where it was. The report is of all cells that are there.
"""

import argparse
import fnmatch
import os
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

import study_cells
import study_report
import trial
from run import ROOT, TEACHER, check_shipped
from steps import Step
from study_cells import Key, Target, target_of
from study_plan import (
    MARGIN,
    RATES,
    ROWS,
    STUDENTS,
    TEACHER_ROW,
    TUNING,
    USUAL,
    Plan,
    cell_steps,
    data_steps,
    label_steps,
    subset_steps,
    tuning_steps,
)
from study_questions import STAGES, cells

SEEDS = sorted({seed for stage in STAGES for seed in stage.seeds})
Planned = Tuple[List[Target], List[Step]]


def all_steps(plan: Plan, seeds: Sequence[int], budgets: Sequence[int], steps: Sequence[Step]) -> List[Step]:
    """With what they share, each once."""
    shared = [*data_steps(plan), *label_steps(plan)]
    for seed in seeds:
        shared += subset_steps(plan, seed, budgets)
    return list({step.name: step for step in (*shared, *steps)}.values())


def tuned(row: str) -> str:
    """The row whose learning rate it has."""
    return STUDENTS[row].like if row in STUDENTS else row


def tuning(plan: Plan, folder: str, rows: Sequence[str]) -> Planned:
    """A cell for each rate of each row that has one."""
    targets, steps = [], []
    for row in dict.fromkeys(tuned(row) for row in rows if row != TEACHER_ROW):
        for rate in RATES:
            name = f"{row}@{rate}"
            steps += tuning_steps(plan, row, rate, name)
            targets.append(target_of(folder, name, TUNING, plan.tuning, f"decode-{name}"))
    return targets, all_steps(plan, [TUNING], [plan.tuning], steps)


def rates(plan: Plan, folder: str, rows: Sequence[str]) -> Dict[str, float]:
    """{row: its learning rate}, of the rows all of whose cells are current: the recipes' unless another one makes
    clearly fewer errors on the validation set."""
    found: Dict[str, Dict[float, float]] = {}
    for (name, _, _), cell in study_cells.there(*tuning(plan, folder, rows), plan.out, TEACHER).items():
        row, _, rate = name.partition("@")
        found.setdefault(row, {})[float(rate)] = cell["wer"]
    best = {row: min(tried, key=tried.get) for row, tried in found.items() if len(tried) == len(RATES)}
    return {row: rate if found[row][rate] < (1 - MARGIN) * found[row][USUAL] else USUAL for row, rate in best.items()}


def study(plan: Plan, folder: str, wanted: Sequence[Key], chosen: Dict[str, float]) -> Planned:
    """The cells of (row, seed, utterances with labels), and their steps in the same order. chosen: learning rates;
    a row without one is left out."""
    targets, steps = [], []
    for row, seed, labelled in wanted:
        if row == TEACHER_ROW or tuned(row) in chosen:
            steps += cell_steps(plan, row, seed, labelled, chosen.get(tuned(row), 0.0))
            targets.append(target_of(folder, row, seed, labelled, f"decode-{row}-{seed}-{labelled}"))
    return targets, all_steps(plan, sorted({seed for _, seed, _ in wanted}), plan.budgets, steps)


def planned(plan: Plan, folder: str, group: str, wanted: Sequence[Key]) -> Planned:
    """A group's cells and steps: the learning rates first, since those of the study follow from them."""
    rows = list(dict.fromkeys(row for row, _, _ in wanted))
    if group == "rates":
        return tuning(plan, f"{folder}/rates", rows)
    return study(plan, f"{folder}/study", wanted, rates(plan, f"{folder}/rates", rows))


def report(plan: Plan, folder: str, usual: bool) -> None:
    """Of all cells that are current; of the trial's where the plan is the usual one."""
    every = cells(ROWS, SEEDS, plan.budgets)
    parts = {group: (*planned(plan, folder, group, every), plan.out) for group in ("rates", "study")}
    if usual:
        parts["trial"] = (*trial.planned(f"{plan.out}/trial", f"{folder}/trial"), f"{plan.out}/trial")
    study_report.write(plan.out, plan, **{name: study_cells.there(*part, TEACHER) for name, part in parts.items()})


class Part(NamedTuple):
    """What is run together. waiting: cells that cannot be planned before their learning rates are there."""

    title: str
    targets: List[Target]
    steps: List[Step]
    out: str
    waiting: int = 0


def parts(plan: Plan, folder: str, rows: Sequence[str], seeds: Sequence[int], with_trial: bool) -> Iterator[Part]:
    """In their order; each is planned when the ones before it have been run."""
    for number, stage in enumerate(STAGES, 1):
        wanted = cells(rows, seeds, plan.budgets, [stage])
        for group in ("rates", "study"):
            targets, steps = planned(plan, folder, group, wanted)
            waiting = len(wanted) - len(targets) if group == "study" else 0
            yield Part(f"{group}, stage {number}", targets, steps, plan.out, waiting)
    if with_trial:
        targets, steps = trial.planned(f"{plan.out}/trial", f"{folder}/trial")
        yield Part("trial", targets, steps, f"{plan.out}/trial")


def show(part: Part) -> None:
    left = study_cells.missing(part.targets, part.steps, part.out, TEACHER)
    print(f"{part.title}: {len(part.targets) - len(left)} of {len(part.targets)} cells are there")
    if part.waiting:
        print(f"{part.waiting} more, whose learning rates are to be chosen first")
    for step in study_cells.ancestors(part.steps, [target.step for target in left]):
        print("\n".join(f"{step.name}: {command}" for command in step.commands))


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    plan = Plan("")
    parser.add_argument("--out", default=f"{ROOT}/out/study", metavar="OUT", help="folder of everything (out/study)")
    parser.add_argument(
        "--cells", metavar="DIR", help="results (recipes/demo/cells; with other sizes, updates or labels OUT/cells)"
    )
    parser.add_argument("--rows", nargs="+", default=["*"], metavar="ROW", help=f"names or patterns; {', '.join(ROWS)}")
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=SEEDS, metavar="N", help="(1 2 3 4 5)")
    parser.add_argument(
        "--labels",
        nargs="+",
        type=int,
        default=plan.budgets,
        metavar="N",
        help="utterances with labels (1200 400 100); others need --updates",
    )
    parser.add_argument(
        "--sizes",
        nargs=3,
        type=int,
        default=plan[1:4],
        metavar="N",
        help="utterances of training, validation, test (1200 200 2300)",
    )
    updates = [plan.distil, *plan.ctc]
    parser.add_argument(
        "--updates",
        nargs="+",
        type=int,
        default=updates,
        metavar="N",
        help="of the distillation, and of CTC with each of --labels (1000 1500 1000 600)",
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="steps at a time, which share the cores (2)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run")
    parser.add_argument("--report", action="store_true", help="run nothing, write the report from the cells")
    return parser


def main() -> None:
    parser = get_parser()
    args = parser.parse_args()
    rows = [row for row in ROWS if any(fnmatch.fnmatch(row, pattern) for pattern in args.rows)]
    unknown = [pattern for pattern in args.rows if not fnmatch.filter(ROWS, pattern)]
    if unknown:
        parser.error(f"--rows {unknown[0]}: no such row; there are {', '.join(ROWS)}")
    if len(args.updates) != 1 + len(args.labels):
        parser.error(
            f"--updates: expected {1 + len(args.labels)}, of the distillation and of CTC with each of --labels"
        )
    if args.jobs < 1:
        parser.error(f"--jobs {args.jobs}: expected 1 or more")
    check_shipped()
    out = os.path.abspath(args.out)
    distil, *ctc = args.updates
    plan = Plan(out, *args.sizes, tuple(args.labels), distil, tuple(ctc), min(Plan(out).tuning, max(args.labels)))
    usual = plan == Plan(out)
    folder = args.cells or (study_cells.CELLS if usual else f"{out}/cells")
    for part in parts(plan, folder, rows, args.seeds, usual and args.rows == ["*"]) if not args.report else ():
        if args.dry_run:
            show(part)
        elif part.targets:
            study_cells.run(part.targets, part.steps, part.out, TEACHER, args.jobs)
    if not args.dry_run:
        report(plan, folder, usual)


if __name__ == "__main__":
    main()
