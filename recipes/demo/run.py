"""The whole chain on synthesised speech: teacher, distilled student, the same student undistilled, and their table.

    python recipes/demo/run.py                  # into out/demo
    python recipes/demo/run.py --frontend fbank # the same with an Fbank student, distilled in two stages
    python recipes/demo/run.py --out /tmp/demo --train 300 --updates 20     # a short one, to see it run

Every step is a command that could be typed; it is printed before it runs, and its output is kept in OUT/logs. A step
that is done is not done again while its command stays the same, and a training that was killed goes on where it was.
"""

import argparse
import os
import sys
from typing import List, Sequence

import report
from steps import Runner, Step

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
ROWS = ("teacher", "distilled", "undistilled")


def manifest_steps(out: str, splits: Sequence[str]) -> List[Step]:
    """The manifest and the letters of each split of the speech."""
    steps, data = [], f"{out}/data"
    for split in splits:
        known = "" if split == "train" else f" --dict {data}/dict.ltr.txt"
        commands = [
            f"python manifests/tsv.py {out}/speech/{split} --dest {data} --name {split}",
            f"python manifests/letters.py {data}/{split}.tsv --transcripts {out}/speech/{split}.trans.txt{known}",
        ]
        needs = ("speech",) if split == "train" else ("manifest-train",)
        steps.append(Step(f"manifest-{split}", commands, None, needs))
    return steps


def data_steps(out: str, train: int) -> List[Step]:
    """Speech, manifests, letters, an eighth of it with labels for CTC, and k-means labels for the teacher."""
    speech, data, feats = f"{out}/speech", f"{out}/data", f"{out}/features"
    tool = "python manifests/"
    sizes = f"--train {train} --valid {max(4, train // 25)} --test {max(8, train // 8)}"
    steps = [Step("speech", [f"{tool}synthetic.py {speech} --grammar digits {sizes}"], speech)]
    steps += manifest_steps(out, ("train", "valid", "test"))
    manifests = tuple(step.name for step in steps[1:])
    features = [f"{tool}features.py {data} {split} {feats} --feature mfcc" for split in ("train", "valid")]
    kmeans = f"{tool}kmeans.py {feats} --splits train valid --clusters 50 --dest {data}"
    labelled = f"{tool}subset.py {data} train labelled --utterances {max(8, train // 8)}"
    return steps + [
        Step("labelled", [labelled], None, manifests),
        Step("kmeans", features + [kmeans], feats, manifests),
    ]


def fbank_step(out: str) -> Step:
    """Statistics for a student with frontend=fbank."""
    return Step("fbank", [f"python manifests/fbank_stats.py {out}/data train"], None, ("manifest-train",))


def frontend_options(frontend: str, updates: int) -> str:
    """Of a distillation of so many updates: a fourth of them is the first stage of an Fbank student's."""
    return f" frontend=fbank criterion.frontend_updates={updates // 4}" if frontend == "fbank" else ""


def train(folder: str, recipe: str, save_dir: str, overrides: str) -> str:
    """A fairseq-hydra-train command for recipes/{folder}/{recipe}.yaml."""
    return (
        f"fairseq-hydra-train --config-dir {ROOT}/recipes/{folder} --config-name {recipe} "
        f"common.user_dir={ROOT}/distill_user_dir checkpoint.save_dir={save_dir} "
        f"hydra.run.dir={save_dir}/hydra {overrides}"
    )


def decode(out: str, model: str, results: str) -> str:
    """A decoding command for the best checkpoint in the folder `model`, on the test split."""
    return (
        f"python -m distill_user_dir.infer --config-dir {ROOT}/recipes/decode --config-name viterbi common.cpu=true "
        f"task.data={out}/data common_eval.path={model}/checkpoint_best.pt dataset.gen_subset=test "
        f"decoding.results_path={results}"
    )


def schedule(updates: int) -> str:
    """CTC for a number of updates: a tenth of warm-up, half at the peak, the rest decay."""
    warmup, hold = updates // 10, updates // 2
    return (
        f"optimization.max_update={updates} lr_scheduler.warmup_steps={warmup} lr_scheduler.hold_steps={hold} "
        f"lr_scheduler.decay_steps={updates - warmup - hold}"
    )


def teacher_step(out: str, updates: int) -> Step:
    options = (
        f"task.data={out}/data optimization.max_update={updates} lr_scheduler.warmup_updates={max(1, updates // 10)}"
    )
    return Step("teacher", [train("demo", "teacher", f"{out}/teacher", options)], f"{out}/teacher", ("kmeans",))


def distil_options(out: str, updates: int) -> str:
    """Data, teacher and schedule of a distillation."""
    return (
        f"task.data={out}/data task.teacher_path={out}/teacher/checkpoint_last.pt optimization.max_update={updates} "
        f"lr_scheduler.warmup_updates={max(1, updates * 7 // 100)}"
    )


def model_steps(out: str, pretrain: int, distil: int, ctc: int, frontend: str = "waveform") -> List[Step]:
    """Training and decoding of the three, for these numbers of updates; the undistilled gets those of both phases."""
    student = f"{out}/student/checkpoint_best.pt"
    options = f"student=demo {distil_options(out, distil)}{frontend_options(frontend, distil)}"
    needs = ("teacher", "fbank") if frontend == "fbank" else ("teacher",)
    steps = [fbank_step(out)] if frontend == "fbank" else []
    steps += [teacher_step(out, pretrain)]
    steps += [Step("distil", [train("distill", "laptop", f"{out}/student", options)], f"{out}/student", needs)]
    start = {
        "teacher": (f"{out}/teacher/checkpoint_last.pt", ctc, "", "teacher"),
        "distilled": (student, ctc, "", "distil"),
        "undistilled": (student, distil + ctc, " model.no_pretrained_weights=true", "distil"),
    }
    for row in ROWS:
        path, updates, extra, needed = start[row]
        options = f"task.data={out}/data dataset.train_subset=labelled model.w2v_path={path} {schedule(updates)}{extra}"
        command, results = train("finetune", "laptop", f"{out}/ctc-{row}", options), f"{out}/decode/{row}"
        steps += [
            Step(f"ctc-{row}", [command], f"{out}/ctc-{row}", (needed, "labelled")),
            Step(f"decode-{row}", [decode(out, f"{out}/ctc-{row}", results)], results, (f"ctc-{row}",)),
        ]
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=f"{ROOT}/out/demo", metavar="OUT", help="folder of everything (out/demo)")
    parser.add_argument("--train", type=int, default=1200, metavar="N", help="training utterances (1200)")
    parser.add_argument(
        "--updates",
        type=int,
        nargs="+",
        default=[600, 450, 300],
        metavar="N",
        help="of the teacher's pre-training, the distillation and CTC (600 450 300), or one for all",
    )
    parser.add_argument(
        "--frontend", choices=("waveform", "fbank"), default="waveform", help="of the student: its CNN or Fbank"
    )
    args = parser.parse_args()
    out = os.path.abspath(args.out)
    updates = args.updates * 3 if len(args.updates) == 1 else args.updates
    if len(updates) != 3:
        parser.error("--updates takes one number or three")
    Runner(data_steps(out, args.train) + model_steps(out, *updates, args.frontend), out, ROOT).run()
    report.write(out, ROWS)


if __name__ == "__main__":
    sys.exit(main())
