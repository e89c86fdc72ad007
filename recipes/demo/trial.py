"""A fine-tuned teacher in place of transcripts: word error rates by label budget, over several seeds.

    python recipes/demo/trial.py                       # into out/trial
    python recipes/demo/trial.py --seeds 1 --labels 100

The repository's HuBERT is fine-tuned on a few transcripts, and its students learn from it on all of the demo's speech;
or, as `ctc`, from the transcripts alone. A seed sets the students' initialisation, batches, and which utterances have
labels. Every step is a command that could be typed; what is done is not done again.
"""

import argparse
import json
import os
import statistics
import sys
from typing import Dict, List, Sequence

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
from steps import Runner, Step

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


def rates(out: str, row: str, labels: int, seeds: Sequence[int]) -> List[float]:
    """The word error rate of each seed, in per cent."""
    found = []
    for seed in seeds:
        with open(f"{out}/{seed}/{row}-{labels}/test/wer.json", encoding="utf-8") as file:
            found.append(json.load(file)["wer"])
    return found


def table(out: str, budgets: Sequence[int], seeds: Sequence[int]) -> str:
    """Mean and standard deviation over the seeds, a line for each row."""
    cells: Dict[str, List[str]] = {}
    for row in ("teacher", *ROWS):
        for labels in budgets:
            found = rates(out, row, labels, seeds)
            spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
            cells.setdefault(row, []).append(f"{statistics.mean(found):.1f}{spread}")
    lines = [f"| transcripts | {' | '.join(map(str, budgets))} |", "|---" * (len(budgets) + 1) + "|"]
    return "\n".join(lines + [f"| {row} | {' | '.join(found)} |" for row, found in cells.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=f"{ROOT}/out/trial", metavar="OUT", help="folder of everything (out/trial)")
    parser.add_argument("--train", type=int, default=1200, metavar="N", help="training utterances (1200)")
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 400], metavar="N", help="transcripts (100 400)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], metavar="N", help="(1 2 3 4 5)")
    parser.add_argument("--updates", type=int, nargs=2, default=[600, 600], metavar="N", help="distillation, CTC (600)")
    args = parser.parse_args()
    check_shipped()
    out = os.path.abspath(args.out)
    steps = data_steps(out, args.train)
    for seed in args.seeds:
        steps.append(distil_step(out, seed, args.updates[0]))
        for labels in args.labels:
            steps += budget_steps(out, seed, labels, *args.updates)
    Runner(steps, out, ROOT, jobs=2).run()
    print(f"\n{table(out, args.labels, args.seeds)}")


if __name__ == "__main__":
    sys.exit(main())
