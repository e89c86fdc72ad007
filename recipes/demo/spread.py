"""Where the spread between seeds comes from: one row, in which one thing at a time gets another seed.

    python recipes/demo/spread.py            # into out/spread, and a table

The row is deep and thin, by regression. Its word error rate, with all and with a part of the labels, depends on the
student's initialisation, on batches and crops of its distillation, on the seed of CTC (its layer, batches and dropout),
on which utterances have labels, on the checkpoint that the validation picks, and on the test set. Each of the first
four gets seeds of its own here, with all else the same; the deviation of a source is that over its seeds.
"""

import argparse
import json
import os
import statistics
import sys
from typing import Dict, List, Sequence

import numpy as np
from run import ROOT, check_shipped
from steps import Runner, Step
from study_cells import errors_in
from study_plan import STUDENTS, Plan, ctc_steps, data_steps, distil_step, of_student, split, subset_steps

ROW, RATE = STUDENTS["deep_thin-reg"], 0.003
SOURCES = ("initialisation", "batches", "ctc", "labelled", "all")
DRAWS = 2000  # test sets drawn from the one there is


def seeds_of(source: str, seed: int) -> Dict[str, int]:
    """The seed of each source, where one of them, or all, have this one and the others the first."""
    return {name: seed if source in (name, "all") else 1 for name in SOURCES[:-1]}


def steps_of(plan: Plan, source: str, seed: int) -> List[Step]:
    """The chain of one source and seed, with all budgets."""
    seeds = seeds_of(source, seed)
    begun = f"init-{seeds['initialisation']}"
    init = distil_step(plan._replace(distil=1), begun, ROW, 1e-12, seeds["initialisation"])
    name = f"{seeds['initialisation']}-{seeds['batches']}"
    student = distil_step(plan, name, ROW, RATE, seeds["batches"], f"{init.folder}/checkpoint_last.pt")
    student = student._replace(needs=(*student.needs, init.name))
    steps = [init, student]
    for labelled in plan.budgets:
        drawn = 1 if labelled == plan.train else seeds["labelled"]
        given = f"common.seed={seeds['ctc']} dataset.train_subset={split(plan, labelled, drawn)}"
        needs = (student.name, f"subset-{labelled}-{drawn}")
        tuned = tuned_name(plan, source, seed, labelled)
        steps += ctc_steps(plan, tuned, f"{given} {of_student(student.folder)}", plan.updates_of(labelled), needs)
        if source == "all":
            steps.append(of_last_checkpoint(steps[-1], tuned))
    return steps


def of_last_checkpoint(decoding: Step, name: str) -> Step:
    """The same decoding of the checkpoint of the last update, not of the one that validation picked."""
    folder = f"{os.path.dirname(decoding.folder)}/last"
    command = decoding.commands[0].replace("checkpoint_best.pt", "checkpoint_last.pt")
    return decoding._replace(name=f"last-{name}", commands=[command.replace(decoding.folder, folder)], folder=folder)


def tuned_name(plan: Plan, source: str, seed: int, labelled: int) -> str:
    seeds = seeds_of(source, seed)
    drawn = 1 if labelled == plan.train else seeds["labelled"]
    return f"{seeds['initialisation']}-{seeds['batches']}-{seeds['ctc']}-{drawn}-{labelled}"


def plan_steps(plan: Plan, seeds: Sequence[int]) -> List[Step]:
    """All of them, each once."""
    steps = data_steps(plan)
    for seed in seeds:
        steps += subset_steps(plan, seed, plan.budgets)
    for seed in seeds:
        for source in SOURCES:
            steps += steps_of(plan, source, seed)
    return list({step.name: step for step in steps}.values())


def results(plan: Plan, source: str, seed: int, labelled: int, kind: str = "test") -> str:
    """The folder of a decode."""
    return f"{plan.out}/ctc/{tuned_name(plan, source, seed, labelled)}/{kind}"


def rate(plan: Plan, source: str, seed: int, labelled: int, kind: str = "test") -> float:
    """A word error rate in per cent."""
    with open(f"{results(plan, source, seed, labelled, kind)}/wer.json", encoding="utf-8") as file:
        return json.load(file)["wer"]


def of_test_sets(counts: np.ndarray, utterances: int) -> float:
    """The deviation over test sets of so many utterances, drawn with replacement."""
    drawn = np.random.default_rng(1).integers(len(counts), size=(DRAWS, utterances))
    sums = counts[drawn].sum(1)
    return float(np.std(100 * sums[:, 0] / sums[:, 1], ddof=1))


def table(plan: Plan, seeds: Sequence[int]) -> str:
    """For each budget the deviation of each source, in points of WER, and the rates it is of."""
    lines = [f"| deviation of WER (its values) | {' | '.join(map(str, plan.budgets))} labelled |"]
    lines.append("|---" * (len(plan.budgets) + 1) + "|")

    def line(title: str, cells: Sequence[str]) -> None:
        lines.append(f"| {title} | {' | '.join(cells)} |")

    for source in SOURCES:
        found = [[rate(plan, source, seed, n) for seed in seeds] for n in plan.budgets]
        line(source, ["" if len(set(one)) == 1 else spread(one) for one in found])
    last = [[rate(plan, "all", seed, n, "last") for seed in seeds] for n in plan.budgets]
    line("all, last checkpoint", [spread(one) for one in last])
    for utterances in (150, 500, plan.test):
        deviations = [of_test_sets(errors_in(results(plan, "all", 1, n)), utterances) for n in plan.budgets]
        line(f"test set of {utterances}", [f"{deviation:.1f}" for deviation in deviations])
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    return f"{statistics.stdev(values):.1f} ({', '.join(f'{value:.1f}' for value in values)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=f"{ROOT}/out/spread", metavar="OUT", help="folder of everything (out/spread)")
    parser.add_argument("--seeds", type=int, default=4, metavar="N", help="of each source (4)")
    parser.add_argument("--updates", type=int, nargs=2, default=[600, 600], metavar="N", help="distillation, CTC (600)")
    parser.add_argument(
        "--sizes", type=int, nargs=3, default=[1200, 200, 2300], metavar="N", help="training, validation, test"
    )
    parser.add_argument("--labels", type=int, nargs="+", default=[1200, 400], metavar="N", help="budgets (1200 400)")
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error("--seeds: a spread needs two at least")
    check_shipped()
    plan = Plan(
        os.path.abspath(args.out),
        *args.sizes,
        tuple(args.labels),
        args.updates[0],
        (args.updates[1],) * len(args.labels),
    )
    seeds = range(1, args.seeds + 1)
    Runner(plan_steps(plan, seeds), plan.out, ROOT, jobs=2).run()
    print(f"\n{table(plan, seeds)}")


if __name__ == "__main__":
    sys.exit(main())
