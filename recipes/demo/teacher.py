"""Pre-trains the small HuBERT that the demo distils, as HuBERT was: two iterations, on synthesised speech.

    python recipes/demo/teacher.py                # into out/teacher; about four hours on two cores
    python recipes/demo/teacher.py --out /tmp/teacher --train 60 --updates 10     # a short one, to see it run

Sentences in eSpeak NG's voices and a natural one, bent, in rooms and noise. The first iteration predicts clusters of
MFCC, the second clusters of a layer of the first. Every step is a command that could be typed; what was killed goes on
where it was.
"""

import argparse
import os
import sys
from typing import List

from run import ROOT, manifest_steps, train
from steps import Runner, Step

CONDITIONS = ("heard", "noisy")
CLUSTERS = {1: 100, 2: 200}
LAYER = 4  # of the first iteration's six, whose clusters the second predicts


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
        Step(f"clusters{iteration}", [*features, f"python manifests/kmeans.py {feats} {clusters}"], feats, needs),
        Step(f"iteration{iteration}", [train("demo", "teacher", folder, options)], folder, (f"clusters{iteration}",)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", default=f"{ROOT}/out/teacher", metavar="OUT", help="folder of everything (out/teacher)"
    )
    parser.add_argument("--train", type=int, default=7200, metavar="N", help="training utterances (7200: six hours)")
    parser.add_argument("--updates", type=int, default=9000, metavar="N", help="of each iteration (9000)")
    args = parser.parse_args()
    out = os.path.abspath(args.out)
    splits = ("train", "valid", "test", *(f"test_{condition}" for condition in CONDITIONS))
    steps = [speech_step(out, args.train), *manifest_steps(out, splits)]
    for iteration in CLUSTERS:
        steps += iteration_steps(out, iteration, args.updates)
    Runner(steps, out, ROOT).run()
    print(f"\n{out}/iteration2/checkpoint_last.pt is the teacher")


if __name__ == "__main__":
    sys.exit(main())
