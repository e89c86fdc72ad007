"""Student structures and losses, each fine-tuned on several label budgets, over several seeds, and a report of them.

    python recipes/demo/study.py                                     # into out/demo, where `make demo` has been or not
    python recipes/demo/study.py --rows 'deep_thin-*' --seeds 1 2 --jobs 2
    python recipes/demo/study.py --dry-run                           # what would be run, and how long it would take

Speech and teacher are those of `run.py --teacher train`, and are shared with it. A seed sets the student's
initialisation, batches and masks, and which utterances have labels. What is done is not done again, a training that was
killed goes on where it was, and OUT/study/report.html is written at the end, be it a bad one (--report: from what is
there).
"""

import argparse
import fnmatch
import os
import sys
from typing import Dict, List, NamedTuple, Sequence, Tuple

import study_report
from run import ROOT, data_steps, decode, distil_options, fbank_step, own_teacher, schedule, teacher_steps, train
from steps import Runner, Step

DISC = "loss=reg_disc criterion.discriminative_head={} criterion.discriminative_target={}"
LOSSES = {
    "reg": "loss=reg",
    "codebook-soft": DISC.format("codebook", "soft"),
    "codebook-hard": DISC.format("codebook", "hard"),
    "codebook-kmeans": DISC.format("codebook", "kmeans") + " data=km100",
    "linear-soft": DISC.format("linear", "soft") + " criterion.student_temperature=1.0",
    "linear-hard": DISC.format("linear", "hard") + " criterion.student_temperature=1.0",
    "linear-kmeans": DISC.format("linear", "kmeans") + " criterion.student_temperature=1.0 data=km100",
    "kmeans": "loss=kmeans data=km100",
}
STUDENTS = {
    **{f"deep_thin-{loss}": f"student=demo_deep_thin {options}" for loss, options in LOSSES.items()},
    "deep_thin-fbank": "student=demo_deep_thin loss=reg frontend=fbank",
    "deep_thin-fbank-direct": "student=demo_deep_thin loss=reg frontend=fbank",
    **{f"shallow_wide-{loss}": f"student=demo_shallow_wide {LOSSES[loss]}" for loss in ("reg", "codebook-soft")},
}
ROWS = [*STUDENTS, "deep_thin-undistilled", "teacher"]

AUDIO = 160000  # samples of a batch, at most
# Seconds of a step on one of two threads of a shared x86-64 server: start and a rate per update, or the whole.
STARTUP = 12
RATES = {"teacher": 1.35, "distil": 0.5, "ctc": 0.25}
SECONDS = {"speech": 30, "manifest": 10, "labelled": 5, "kmeans": 40, "subset": 5, "fbank": 20, "decode": 14}


class Plan(NamedTuple):
    """out: the demo's folder; train: utterances; rows, seeds; shares: of the utterances that have labels; pretrain,
    distil, ctc: updates."""

    out: str
    train: int
    rows: Sequence[str]
    seeds: Sequence[int]
    shares: Sequence[float]
    pretrain: int
    distil: int
    ctc: int

    def labelled(self, share: float) -> int:
        """Utterances with labels."""
        return max(4, round(share * self.train))

    def folder(self, row: str, seed: int) -> str:
        return f"{self.out}/study/{row}-{seed}"

    def budgets(self) -> List[int]:
        """Utterances with labels, of each share; two shares of the same number are one."""
        return list(dict.fromkeys(self.labelled(share) for share in self.shares))

    def cells(self) -> List[Tuple[str, int, int]]:
        """(row, seed, utterances with labels) of each result, all rows of one seed before the next."""
        return [(row, seed, labelled) for seed in self.seeds for row in self.rows for labelled in self.budgets()]


def training_options(seed: int, updates: int) -> str:
    """Small batches, and checkpoints only where there is something to lose, since each comes with a validation."""
    every = max(200, updates // 4)
    return (
        f"common.seed={seed} dataset.max_tokens={AUDIO} checkpoint.save_interval_updates={every} "
        f"dataset.validate_interval_updates={every}"
    )


def distil_step(plan: Plan, row: str, seed: int) -> Step:
    folder = f"{plan.folder(row, seed)}/student"
    given = distil_options(plan.out, plan.distil, own_teacher(plan.out))
    options = f"{STUDENTS[row]} {given} {training_options(seed, plan.distil)}"
    if "frontend=fbank" in options:
        options += f" criterion.frontend_updates={0 if row.endswith('-direct') else plan.distil // 4}"
    needs = ("teacher", "fbank") if "frontend=fbank" in options else ("teacher",)
    return Step(f"distil-{row}-{seed}", [train("distill", "laptop", folder, options)], folder, needs)


def ctc_steps(plan: Plan, row: str, seed: int, labelled: int) -> List[Step]:
    """Fine-tuning with the CNN frozen, and decoding."""
    source = "deep_thin-reg" if row == "deep_thin-undistilled" else row
    start = f"{plan.folder(source, seed)}/student/checkpoint_best.pt"
    needed, updates, extra = f"distil-{source}-{seed}", plan.ctc, " model.feature_grad_mult=0.0"
    if row == "teacher":
        start, needed = own_teacher(plan.out), "teacher"
    if row == "deep_thin-undistilled":
        updates, extra = plan.distil + plan.ctc, " model.no_pretrained_weights=true"
    folder = f"{plan.folder(row, seed)}/ctc-{labelled}"
    options = (
        f"task.data={plan.out}/data dataset.train_subset={split(plan, labelled, seed)} model.w2v_path={start} "
        f"{schedule(updates)} {training_options(seed, updates)}{extra}"
    )
    name = f"{row}-{labelled}-{seed}"
    return [
        Step(
            f"ctc-{name}", [train("finetune", "laptop", folder, options)], folder, (needed, f"subset-{labelled}-{seed}")
        ),
        Step(f"decode-{name}", [decode(plan.out, folder, f"{folder}/test")], f"{folder}/test", (f"ctc-{name}",)),
    ]


def split(plan: Plan, labelled: int, seed: int) -> str:
    return "train" if labelled == plan.train else f"train_{labelled}_{seed}"


def subset_step(plan: Plan, labelled: int, seed: int) -> Step:
    name = split(plan, labelled, seed)
    tool = f"python manifests/subset.py {plan.out}/data train {name} --utterances {labelled} --seed {seed}"
    return Step(f"subset-{labelled}-{seed}", [] if name == "train" else [tool], None, ("kmeans",))


def study_steps(plan: Plan) -> List[Step]:
    """Everything that the rows need, each step once."""
    steps = data_steps(plan.out, plan.train) + teacher_steps(plan.out, plan.pretrain)
    if any("frontend=fbank" in STUDENTS.get(row, "") for row in plan.rows):
        steps.append(fbank_step(plan.out))
    for seed in plan.seeds:
        steps += [subset_step(plan, labelled, seed) for labelled in plan.budgets()]
        sources = ["deep_thin-reg" if row == "deep_thin-undistilled" else row for row in plan.rows if row != "teacher"]
        steps += [distil_step(plan, row, seed) for row in dict.fromkeys(sources)]
    for row, seed, labelled in plan.cells():
        steps += ctc_steps(plan, row, seed, labelled)
    return by_seed(steps, plan.seeds)


def by_seed(steps: List[Step], seeds: Sequence[int]) -> List[Step]:
    """What has no seed first, then seed after seed, in each of them row after row, its fine-tuning right behind its
    distillation: what a study that is stopped has got can be compared."""

    def order(step: Step) -> Tuple[int, int]:
        kind, _, rest = step.name.partition("-")
        if kind not in ("subset", "distil", "ctc", "decode"):
            return (-1, -1)
        row, seed = rest.rsplit("-", 1)
        row = row if kind == "distil" else row.rsplit("-", 1)[0]
        return (list(seeds).index(int(seed)), -1 if kind == "subset" else ROWS.index(row))

    return sorted(steps, key=order)


def guessed(plan: Plan, step_name: str) -> float:
    """Seconds of a step that nothing is known of."""
    kind = step_name.split("-")[0]
    if kind not in RATES:
        return SECONDS[kind]
    updates = {"teacher": plan.pretrain, "distil": plan.distil, "ctc": plan.ctc}[kind]
    if kind == "ctc" and "-undistilled-" in step_name:
        updates += plan.distil
    return STARTUP + RATES[kind] * updates


def predicted(plan: Plan, steps: List[Step], seconds: Dict[str, float]) -> float:
    """Seconds that steps will take one after the other: the guess, times what those of their kind took of theirs."""
    measured: Dict[str, List[float]] = {}
    for name, taken in seconds.items():
        measured.setdefault(name.split("-")[0], []).append(taken / guessed(plan, name))
    factor = {kind: sum(ratios) / len(ratios) for kind, ratios in measured.items()}
    return sum(guessed(plan, step.name) * factor.get(step.name.split("-")[0], 1.0) for step in steps)


def run(plan: Plan, jobs: int, dry_run: bool) -> None:
    """Everything that is not done yet, with the time that is left told after each step, and then the report."""
    steps = study_steps(plan)
    runner = Runner(steps, plan.out, ROOT, jobs)
    left = [step for step in steps if not runner.is_done(step)]

    def tell(left: List[Step]) -> None:
        minutes = predicted(plan, left, runner.seconds()) / 60 / jobs
        print(f"{len(steps) - len(left)} of {len(steps)} steps done, about {minutes:.0f} minutes left", flush=True)

    tell(left)
    if dry_run:
        print("\n".join(f"{step.name}: {command}" for step in left for command in step.commands))
        return
    try:
        runner.run(lambda _, left: tell(left))
    finally:
        study_report.write(plan, steps)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=f"{ROOT}/out/demo", metavar="OUT", help="the demo's folder (out/demo)")
    parser.add_argument("--rows", nargs="+", default=["*"], metavar="ROW", help=f"names or patterns; {', '.join(ROWS)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N", help="(1 2 3)")
    parser.add_argument(
        "--shares", nargs="+", type=float, default=[1, 0.1, 0.01], metavar="P", help="with labels (1 0.1 0.01)"
    )
    parser.add_argument(
        "--train", type=int, default=1200, metavar="N", help="training utterances, as the demo's (1200)"
    )
    parser.add_argument(
        "--updates",
        type=int,
        nargs=3,
        default=[600, 200, 220],
        metavar="N",
        help="of the teacher's pre-training (as the demo's), of distillation and of CTC (600 200 220)",
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="steps at a time, which share the cores (1)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run, and for how long")
    parser.add_argument("--report", action="store_true", help="run nothing, write the report from what is there")
    return parser


def main() -> None:
    args = get_parser().parse_args()
    rows = [row for row in ROWS if any(fnmatch.fnmatch(row, pattern) for pattern in args.rows)]
    unknown = [pattern for pattern in args.rows if not fnmatch.filter(ROWS, pattern)]
    if unknown:
        sys.exit(f"error: --rows {unknown[0]}: no such row; there are {', '.join(ROWS)}")
    plan = Plan(os.path.abspath(args.out), args.train, rows, args.seeds, args.shares, *args.updates)
    if args.report:
        study_report.write(plan, study_steps(plan))
    else:
        run(plan, args.jobs, args.dry_run)


if __name__ == "__main__":
    main()
