"""A fine-tuned teacher in place of transcripts: word error rates by label budget, over several seeds.

    python recipes/demo/trial.py                       # into out/trial
    python recipes/demo/trial.py --seeds 1 --labels 100

The repository's HuBERT is fine-tuned on a few transcripts, and its students learn from it on all of the demo's speech;
or, as `ctc`, from the transcripts alone. A seed sets the students' initialisation, batches, and which utterances have
labels. Every step is a command that could be typed; what is done is not done again. Each result is kept in
recipes/demo/cells/trial, and only what is missing there is run.
"""

import argparse
import os
import sys
from typing import Any, Dict, List, Sequence, Tuple

import study_cells
from run import (
    BATCHES,
    CTC,
    DISTIL,
    DROPOUT,
    ROOT,
    TEACHER,
    check_shipped,
    data_steps,
    decode,
    distil_options,
    schedule,
    train,
    without_transcripts,
)
from steps import Step
from study_cells import Key, Target, target_of
from study_statistics import mean_of, paired

CELLS = f"{study_cells.CELLS}/trial"
BUDGETS, SEEDS, UPDATES = (100, 400), (1, 2, 3, 4, 5), (600, 600)

ALL = (
    "loss=ctc_distillation \"dataset.train_subset='{labelled},train'\" task.unlabelled=[train] task.labelled_share=0.2 "
    "task.teacher_path={teacher}/checkpoint_best.pt criterion.pseudo_weight=0 criterion.transcript_weight=1"
)
SCRATCH = "model.no_pretrained_weights=true"
# What a student learns from: options, and whether it was distilled before. {teacher}, {labelled}: of the budget.
ROWS = {
    "ctc": ("dataset.train_subset={labelled}", True),
    "frames": ("{frames} criterion.pseudo_weight=0", True),
    "words": ("{frames} criterion.frame_weight=0", True),
    "frames-words": ("{frames}", True),
    "frames-transcripts": (ALL, True),
    "frames-alone": ("{frames} criterion.pseudo_weight=0", False),
}


def distil_step(out: str, seed: int, updates: int) -> Step:
    folder = f"{out}/{seed}/distilled"
    options = f"student=demo loss=reg_disc {distil_options(out, updates, TEACHER)} {DISTIL} common.seed={seed}"
    needs = ("manifest-train", "manifest-valid")
    return Step(f"distil-{seed}", [train("distill", "laptop", folder, options)], folder, needs)


def tuned(out: str, seed: int, name: str, options: str, needs: Sequence[str]) -> List[Step]:
    """A fine-tuning, and its decoding."""
    folder = f"{out}/{seed}/{name}"
    command = train("finetune", "laptop", folder, f"task.data={out}/data common.seed={seed} {options}")
    decoding, after = decode(out, folder, f"{folder}/test"), (f"{name}-{seed}", "manifest-test")
    return [
        Step(f"{name}-{seed}", [command], folder, tuple(needs)),
        Step(f"decode-{name}-{seed}", [decoding], f"{folder}/test", after),
    ]


def budget_steps(out: str, seed: int, labels: int, distil: int, ctc: int) -> List[Step]:
    """The teacher and all students of a budget."""
    labelled = f"train_{labels}_{seed}"
    subset = f"python manifests/subset.py {out}/data train {labelled} --utterances {labels} --seed {seed}"
    steps = [Step(f"labelled-{labels}-{seed}", [subset], None, ("manifest-train",))]
    pace, frozen = f"{schedule(2 * ctc)} {BATCHES} {DROPOUT}", "model.feature_grad_mult=0.0"
    options = f"dataset.train_subset={labelled} model.w2v_path={TEACHER} {pace} {frozen}"
    steps += tuned(out, seed, f"teacher-{labels}", options, (steps[0].name, "manifest-valid"))
    teacher = f"{out}/{seed}/teacher-{labels}"
    for row, (learned, distilled) in ROWS.items():
        given = learned.format(frames=without_transcripts(teacher), labelled=labelled, teacher=teacher)
        updates, start = (ctc, frozen) if distilled else (distil + ctc, SCRATCH)
        options = f"{given} model.w2v_path={out}/{seed}/distilled/checkpoint_best.pt {schedule(updates)} {CTC} {start}"
        needs = (f"distil-{seed}", steps[0].name if row == "ctc" else f"teacher-{labels}-{seed}")
        steps += tuned(out, seed, f"{row}-{labels}", options, needs)
    return steps


def targets(cells: str, budgets: Sequence[int], seeds: Sequence[int]) -> List[Target]:
    """A cell for each row, seed and budget."""
    return [
        target_of(cells, row, seed, labels, f"decode-{row}-{labels}-{seed}")
        for seed in seeds
        for labels in budgets
        for row in ("teacher", *ROWS)
    ]


def planned(
    out: str,
    cells: str,
    utterances: int = 1200,
    budgets: Sequence[int] = BUDGETS,
    seeds: Sequence[int] = SEEDS,
    updates: Sequence[int] = UPDATES,
) -> Tuple[List[Target], List[Step]]:
    """The trial's cells and steps."""
    steps = data_steps(out, utterances)
    for seed in seeds:
        steps.append(distil_step(out, seed, updates[0]))
        for labels in budgets:
            steps += budget_steps(out, seed, labels, *updates)
    return targets(cells, budgets, seeds), steps


def table(cells: Dict[Key, Dict[str, Any]], budgets: Sequence[int]) -> str:
    """For each row and budget the mean over the seeds, and its relative difference to `ctc`; both with their 95%
    intervals."""
    head = [f"{labels} transcripts | to ctc" for labels in budgets]
    lines = [f"| row | {' | '.join(head)} |", "|---" * (2 * len(budgets) + 1) + "|"]
    for row in ("teacher", *ROWS):
        texts = []
        for labels in budgets:
            wer = {(name, seed): cell["wer"] for (name, seed, n), cell in cells.items() if n == labels}
            texts.append(mean_of([rate for (name, _), rate in wer.items() if name == row]).text())
            texts.append("" if row in ("teacher", "ctc") else paired(wer, row, "ctc").text())
        lines.append(f"| {row} | {' | '.join(texts)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=f"{ROOT}/out/trial", metavar="OUT", help="folder of everything (out/trial)")
    parser.add_argument("--train", type=int, default=1200, metavar="N", help="training utterances (1200)")
    parser.add_argument("--labels", type=int, nargs="+", default=BUDGETS, metavar="N", help="transcripts (100 400)")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, metavar="N", help="(1 2 3 4 5)")
    parser.add_argument(
        "--cells", metavar="DIR", help="results (recipes/demo/cells/trial; with other utterances or updates OUT/cells)"
    )
    parser.add_argument("--updates", type=int, nargs=2, default=UPDATES, metavar="N", help="distillation, CTC (600)")
    args = parser.parse_args()
    check_shipped()
    out = os.path.abspath(args.out)
    usual = args.train == 1200 and tuple(args.updates) == UPDATES
    targets, steps = planned(
        out, args.cells or (CELLS if usual else f"{out}/cells"), args.train, args.labels, args.seeds, args.updates
    )
    study_cells.run(targets, steps, out, TEACHER)
    print(f"\n{table(study_cells.there(targets, steps, out, TEACHER), args.labels)}")


if __name__ == "__main__":
    sys.exit(main())
