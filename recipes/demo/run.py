"""Distils the small HuBERT of this repository on synthesised speech: four models, their word error rates, a picture.

    python recipes/demo/run.py                  # into out/demo
    python recipes/demo/run.py --teacher FILE   # a HuBERT of yours
    python recipes/demo/run.py --teacher train  # one that is pre-trained on the same speech
    python recipes/demo/run.py --no-transcripts  # the students learn to write from the teacher alone
    python recipes/demo/run.py --out /tmp/demo --train 300 --updates 20     # a short one, to see it run

Every step is a command that could be typed; it is printed before it runs, and its output is kept in OUT/logs. Two run
at a time. A step that is done is not done again while its command stays the same, and a training that was killed goes
on where it was.
"""

import argparse
import hashlib
import os
import re
import sys
from typing import List, Sequence

import report
from steps import Runner, Step

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TEACHER, CARD = f"{HERE}/hubert_demo.pt", f"{HERE}/hubert_demo.md"
STUDENTS = {"distilled": "", "distilled-fbank": " frontend=fbank"}  # deep and thin, and what of its recipe differs
ROWS = ("teacher", *STUDENTS, "undistilled")
UPDATES = (600, 600, 600)
# Ten seconds a batch: on a CPU many small updates learn more than a few big ones in the same time. The small models
# bear a higher rate than the recipes'. The teacher does not, needs twice their updates, and learns few labels by heart
# without dropout.
BATCHES = "dataset.max_tokens=160000 checkpoint.save_interval_updates=200 dataset.validate_interval_updates=200"
DISTIL, CTC = (f"{BATCHES} optimization.lr=[{rate}]" for rate in (0.004, 0.003))
DROPOUT = "model.dropout=0.1 model.final_dropout=0.1 model.layerdrop=0.1"
SECONDS = {"train": 0.02, "pretrain": 0.7, "distil": 0.26, "ctc": 0.3, "rest": 60}  # of an utterance, an update


def manifest_steps(out: str, splits: Sequence[str]) -> List[Step]:
    """The manifest and the letters of each split of the speech. The first one's letters are those of all, and with
    other speech than before its step takes away all that was made of that."""
    steps = []
    for split in splits:
        transcripts = f"--transcripts {out}/speech/{split}.trans.txt"
        command = f"python manifests/corpus.py {out}/speech/{split} {transcripts} --dest {out}/data --name {split}"
        needs = ("speech",) if split == splits[0] else (f"manifest-{splits[0]}",)
        steps.append(Step(f"manifest-{split}", [command], f"{out}/data" if split == splits[0] else None, needs))
    return steps


def speech_steps(out: str, train: int, valid: int, test: int) -> List[Step]:
    """Speech, manifests and letters; utterances of each split."""
    voices = "natural espeak" if sys.version_info >= (3, 9) else "espeak"
    options = f"--grammar digits --voices {voices} --vary --train {train} --valid {valid} --test {test}"
    steps = [Step("speech", [f"python manifests/synthetic.py {out}/speech {options}"], f"{out}/speech")]
    return steps + manifest_steps(out, ("train", "valid", "test"))


def data_steps(out: str, train: int) -> List[Step]:
    """Speech, manifests, letters, and a twelfth of it with labels for CTC."""
    steps = speech_steps(out, train, max(4, train // 25), max(8, train * 5 // 12))
    labelled = f"python manifests/subset.py {out}/data train labelled --utterances {max(8, train // 12)}"
    return [*steps, Step("labelled", [labelled], None, ("manifest-train",))]


def fbank_step(out: str) -> Step:
    """Statistics for a student with frontend=fbank."""
    return Step("fbank", [f"python manifests/fbank_stats.py {out}/data train"], None, ("manifest-train",))


def train(folder: str, recipe: str, save_dir: str, overrides: str) -> str:
    """A fairseq-hydra-train command for recipes/{folder}/{recipe}.yaml."""
    return (
        f"fairseq-hydra-train --config-dir {ROOT}/recipes/{folder} --config-name {recipe} "
        f"common.user_dir={ROOT}/distill_user_dir checkpoint.save_dir={save_dir} "
        f"hydra.run.dir={save_dir}/hydra {overrides}"
    )


def decode(out: str, model: str, results: str, subset: str = "test") -> str:
    """A decoding command for the best checkpoint in the folder `model`."""
    return (
        f"python -m distill_user_dir.infer --config-dir {ROOT}/recipes/decode --config-name viterbi common.cpu=true "
        f"task.data={out}/data common_eval.path={model}/checkpoint_best.pt dataset.gen_subset={subset} "
        f"decoding.results_path={results}"
    )


def schedule(updates: int) -> str:
    """CTC for a number of updates: a tenth of warm-up, half at the peak, the rest decay."""
    warmup, hold = updates // 10, updates // 2
    return (
        f"optimization.max_update={updates} lr_scheduler.warmup_steps={warmup} lr_scheduler.hold_steps={hold} "
        f"lr_scheduler.decay_steps={updates - warmup - hold}"
    )


def teacher_steps(out: str, updates: int) -> List[Step]:
    """A teacher of one's own: clusters of MFCC, and a HuBERT that predicts them."""
    data, feats = f"{out}/data", f"{out}/features"
    features = [f"python manifests/features.py {data} {split} {feats} --feature mfcc" for split in ("train", "valid")]
    kmeans = f"python manifests/kmeans.py {feats} --splits train valid --clusters 50 --dest {data}"
    options = f"task.data={data} optimization.max_update={updates} lr_scheduler.warmup_updates={max(1, updates // 10)}"
    return [
        Step("kmeans", [*features, kmeans], feats, ("manifest-train", "manifest-valid")),
        Step(
            "teacher", [train("demo", "teacher", f"{out}/teacher", options)], f"{out}/teacher", ("kmeans",), alone=True
        ),
    ]


def own_teacher(out: str) -> str:
    return f"{out}/teacher/checkpoint_last.pt"


def distil_options(out: str, updates: int, teacher: str) -> str:
    """Data, teacher and schedule of a distillation."""
    return (
        f"task.data={out}/data task.teacher_path={teacher} optimization.max_update={updates} "
        f"lr_scheduler.warmup_updates={max(1, updates * 7 // 100)}"
    )


def distil_steps(out: str, updates: int, teacher: str, needs: Sequence[str]) -> List[Step]:
    """The students' distillations, by regression and the discriminative loss."""
    steps = []
    for row, extra in STUDENTS.items():
        fbank = "fbank" in extra
        stage = f" criterion.frontend_updates={updates // 4}" if fbank else ""
        options = f"student=demo loss=reg_disc{extra} {distil_options(out, updates, teacher)}{stage} {DISTIL}"
        command, needed = train("distill", "laptop", f"{out}/{row}", options), ("fbank",) if fbank else ()
        steps.append(Step(f"distil-{row}", [command], f"{out}/{row}", (*needs, *needed)))
    return steps


def without_transcripts(teacher: str) -> str:
    """Options of a fine-tuning that learns from a fine-tuned teacher on all speech, and from no transcripts."""
    learned = f"loss=ctc_distillation task.teacher_path={teacher}/checkpoint_best.pt"
    return f"{learned} dataset.train_subset=train task.unlabelled=[train]"


def ctc_steps(
    out: str, row: str, start: str, updates: int, needs: Sequence[str], learned: str = "dataset.train_subset=labelled"
) -> List[Step]:
    """Fine-tuning and decoding. What was trained before keeps its front-end, as HuBERT does in fine-tuning. learned:
    options on what it learns from."""
    extra = "model.no_pretrained_weights=true" if row == "undistilled" else "model.feature_grad_mult=0.0"
    pace = f"{schedule(2 * updates)} {BATCHES} {DROPOUT}" if row == "teacher" else f"{schedule(updates)} {CTC}"
    options = f"task.data={out}/data {learned} model.w2v_path={start} {pace} {extra}"
    command, results = train("finetune", "laptop", f"{out}/ctc-{row}", options), f"{out}/decode/{row}"
    return [
        Step(f"ctc-{row}", [command], f"{out}/ctc-{row}", (*needs, "labelled")),
        Step(f"decode-{row}", [decode(out, f"{out}/ctc-{row}", results)], results, (f"ctc-{row}", "manifest-test")),
    ]


def model_steps(
    out: str, teacher: str, distil: int, ctc: int, needs: Sequence[str] = (), transcripts: bool = True
) -> List[Step]:
    """Training and decoding of all rows; the undistilled student gets the updates of both phases. The longest first.
    transcripts: the students see some, and not the fine-tuned teacher alone."""
    manifests = ("manifest-train", "manifest-valid")
    steps = [fbank_step(out), *distil_steps(out, distil, teacher, (*manifests, *needs))]
    start, needed = f"{out}/distilled/checkpoint_best.pt", ("distil-distilled",)
    steps += ctc_steps(out, "undistilled", start, distil + ctc, needed)
    steps += ctc_steps(out, "teacher", teacher, ctc, (*manifests, *needs))
    learned = () if transcripts else (without_transcripts(f"{out}/ctc-teacher"),)
    for row in STUDENTS:
        needed = (f"distil-{row}", *(() if transcripts else ("ctc-teacher",)))
        steps += ctc_steps(out, row, f"{out}/{row}/checkpoint_best.pt", ctc, needed, *learned)
    return steps


def sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def check_shipped() -> None:
    """SystemExit where the HuBERT of the repository is not the one that its card describes."""
    with open(CARD, encoding="utf-8") as card:
        known = re.search(r"\b[0-9a-f]{64}\b", card.read()).group()
    if not os.path.exists(TEACHER) or sha256(TEACHER) != known:
        sys.exit(f"{TEACHER}: not the file of its card (sha256 {known}); git checkout {TEACHER}, or --teacher train")


def minutes(train: int, pretrain: int, distil: int, ctc: int) -> float:
    """What all of it takes on two cores."""
    rates = SECONDS
    trainings = rates["pretrain"] * pretrain + rates["distil"] * distil + rates["ctc"] * ctc
    return (rates["train"] * train + trainings + rates["rest"]) / 60


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=f"{ROOT}/out/demo", metavar="OUT", help="folder of everything (out/demo)")
    parser.add_argument("--train", type=int, default=1200, metavar="N", help="training utterances (1200)")
    parser.add_argument(
        "--teacher", default=TEACHER, metavar="FILE", help="a HuBERT's checkpoint, or `train` (hubert_demo.pt)"
    )
    parser.add_argument(
        "--updates",
        type=int,
        nargs="+",
        default=UPDATES,
        metavar="N",
        help="of a teacher's pre-training, the distillation and CTC (600 each), or one for all",
    )
    parser.add_argument(
        "--no-transcripts",
        action="store_true",
        help="the students learn to write from the fine-tuned teacher, on all speech, and see no transcripts",
    )
    return parser


def main() -> None:
    parser = get_parser()
    args = parser.parse_args()
    if len(args.updates) not in (1, 3):
        parser.error("--updates takes one number or three")
    pretrain, distil, ctc = args.updates * 3 if len(args.updates) == 1 else args.updates
    out, own = os.path.abspath(args.out), args.teacher == "train"
    if args.teacher == TEACHER:
        check_shipped()
    elif not own and not os.path.isfile(args.teacher):
        parser.error(f"--teacher {args.teacher}: no such file")
    total = max(1, round(minutes(args.train, pretrain if own else 0, distil, ctc)))
    told = f"About {total} minute{'s' if total > 1 else ''} on two cores"
    told += "" if own or args.teacher == TEACHER else ", longer where your HuBERT is larger than the repository's"
    print(f"{told}; a demo that was stopped goes on where it was.", flush=True)
    steps, teacher, needs = data_steps(out, args.train), os.path.abspath(args.teacher), ()
    if own:
        steps, teacher, needs = steps + teacher_steps(out, pretrain), own_teacher(out), ("teacher",)
    steps += model_steps(out, teacher, distil, ctc, needs, not args.no_transcripts)
    Runner(steps, out, ROOT, jobs=2).run()
    report.write(out, ROWS)
    print("\nNext: the same with your own HuBERT and your own recordings, in README.md")


if __name__ == "__main__":
    sys.exit(main())
