"""Pre-trains the small HuBERT that the demo distils, as HuBERT was: two iterations, on synthesised speech.

    python recipes/demo/teacher.py                # into out/teacher; about three hours on two cores
    python recipes/demo/teacher.py --judge recipes/demo/hubert_demo.pt    # the word error rates of one that is there
    python recipes/demo/teacher.py --out /tmp/teacher --train 60 --updates 10     # a short one, to see it run

Sentences in eSpeak NG's voices and a natural one, bent, in rooms and noise. The first iteration predicts clusters of
MFCC, the second clusters of a layer of the first. Every step is a command that could be typed; what was killed goes on
where it was.
"""

import argparse
import json
import os
import sys
from typing import Dict, List, Sequence

from run import ROOT, decode, manifest_steps, schedule, sha256, train
from steps import Runner, Step

CONDITIONS = ("heard", "noisy")
TESTS = {"test_heard": "heard voices", "test": "voices never heard", "test_noisy": "heard, in noise of 0 to 10 dB"}
CLUSTERS = {1: 100, 2: 200}
UPDATES = (1500, 2000, 2400)
LAYER = 4  # of the first iteration's six, whose clusters the second predicts
SHARES = {"all": 1, "tenth": 10}  # of the utterances that have labels, one in so many
CTC = (  # small batches, as in run.py; 160,000 samples are too few for the longest sentence
    "model.feature_grad_mult=0.0 dataset.max_tokens=200000 checkpoint.save_interval_updates=1000 "
    "dataset.validate_interval_updates=1000"
)


def speech_step(out: str, utterances: int) -> Step:
    sizes = f"--train {utterances} --valid {max(4, utterances // 36)} --test {max(8, utterances // 18)}"
    options = f"--grammar sentences --voices natural espeak --vary --conditions {' '.join(CONDITIONS)}"
    return Step("speech", [f"python manifests/synthetic.py {out}/speech {options} {sizes}"], f"{out}/speech")


def iteration_steps(out: str, iteration: int, updates: int) -> List[Step]:
    """Features of the speech, their clusters, and a HuBERT that predicts them."""
    folder, feats = f"{out}/iteration{iteration}", f"{out}/features{iteration}"
    kind, rate, needs = "mfcc", 100, ("manifest-train", "manifest-valid")
    if iteration == 2:
        kind, rate = f"hubert --checkpoint {out}/iteration1/checkpoint_last.pt --layer {LAYER}", 50
        needs = ("iteration1",)
    features = [
        f"python manifests/features.py {out}/data {split} {feats} --feature {kind}" for split in ("train", "valid")
    ]
    clusters = f"--splits train valid --clusters {CLUSTERS[iteration]} --dest {out}/labels{iteration}"
    options = (
        f"task.data={out}/data task.label_dir={out}/labels{iteration} task.label_rate={rate} "
        f"optimization.max_update={updates} lr_scheduler.warmup_updates={max(1, updates // 12)}"
    )
    return [
        Step(f"clusters{iteration}", [*features, f"python manifests/kmeans.py {feats} {clusters}"], feats, needs, True),
        Step(
            f"iteration{iteration}",
            [train("demo", "teacher", folder, options)],
            folder,
            (f"clusters{iteration}",),
            alone=True,
        ),
    ]


def publish_step(out: str) -> Step:
    checkpoint = f"{out}/iteration2/checkpoint_last.pt"
    command = f"python -m distill_user_dir.slim {checkpoint} {out}/hubert_demo.pt --half --no-paths"
    return Step("publish", [command], None, ("iteration2",))


def judge_steps(out: str, share: str, utterances: int, updates: int, teacher: str, needs: Sequence[str]) -> List[Step]:
    """CTC of a teacher on a share of the labels, and decoding of all tests."""
    split, folder, steps = "train", f"{out}/ctc-{share}", []
    if SHARES[share] > 1:
        split = share
        command = f"python manifests/subset.py {out}/data train {split} --utterances {utterances // SHARES[share]}"
        steps = [Step(f"labelled-{share}", [command], None, ("manifest-train",))]
    options = f"task.data={out}/data dataset.train_subset={split} model.w2v_path={teacher} {CTC}"
    command = train("finetune", "laptop", folder, f"{options} {schedule(updates)}")
    steps.append(Step(f"ctc-{share}", [command], folder, (*needs, *(step.name for step in steps))))
    for test in TESTS:
        results, after = f"{out}/decode/{share}-{test}", (f"ctc-{share}", f"manifest-{test}")
        steps.append(Step(f"decode-{share}-{test}", [decode(out, folder, results, test)], results, after))
    return steps


def table(out: str, utterances: int) -> str:
    """Word error rates in per cent with their 95% intervals, a line for each share of the labels."""
    lines = [f"| utterances with labels | {' | '.join(TESTS.values())} |", "|---" * (len(TESTS) + 1) + "|"]
    for share, parts in SHARES.items():
        scores: List[Dict] = []
        for test in TESTS:
            with open(f"{out}/decode/{share}-{test}/wer.json", encoding="utf-8") as file:
                scores.append(json.load(file))
        cells = ["{:.1f} ({:.1f} to {:.1f})".format(score["wer"], *score["wer_interval"]) for score in scores]
        lines.append(f"| {utterances // parts} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="OUT", help="folder of everything (out/teacher; out/judged-HASH of a file's)")
    parser.add_argument("--train", type=int, default=7200, metavar="N", help="training utterances (7200: seven hours)")
    parser.add_argument(
        "--updates", type=int, nargs=3, default=UPDATES, metavar="N", help="of both iterations and CTC (1500 2000 2400)"
    )
    parser.add_argument("--judge", metavar="FILE", help="fine-tune and decode this HuBERT, and pre-train none")
    args = parser.parse_args()
    if args.judge and not os.path.isfile(args.judge):
        parser.error(f"--judge {args.judge}: no such file")
    out = os.path.abspath(args.out or f"{ROOT}/out/{f'judged-{sha256(args.judge)[:8]}' if args.judge else 'teacher'}")
    splits = ("train", "valid", "test", *(f"test_{condition}" for condition in CONDITIONS))
    steps = [speech_step(out, args.train), *manifest_steps(out, splits)]
    teacher, needs = f"{out}/hubert_demo.pt", ("publish",)
    if args.judge:
        teacher, needs = os.path.abspath(args.judge), ("manifest-train", "manifest-valid")
    else:
        for iteration in CLUSTERS:
            steps += iteration_steps(out, iteration, args.updates[iteration - 1])
        steps.append(publish_step(out))
    for share in SHARES:
        steps += judge_steps(out, share, args.train, args.updates[2], teacher, needs)
    Runner(steps, out, ROOT, jobs=2).run()
    print(f"\n{table(out, args.train)}\n\n{teacher} is the teacher")


if __name__ == "__main__":
    sys.exit(main())
