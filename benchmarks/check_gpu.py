"""Every full-size recipe on this machine's GPU, with random weights and noise: does it run, and how fast.

    python benchmarks/check_gpu.py                      # into out/check_gpu; the table is docs/gpu.md
    python benchmarks/check_gpu.py --rehearse           # on a CPU, tiny, in a minute: whether all would run

Fifty updates of each recipe in fp16 and bf16, one of them killed and resumed, two processes where there are two GPUs,
fine-tuning, also by a fine-tuned teacher, the same decode on the GPU and on the CPU, and the benchmark of updates. It
needs no network and installs nothing: all runs in the Python that runs this. Stopped at any time, the same command goes
on where it was.
"""

import argparse
import json
import os
import re
import sys
from typing import List

import torch

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "recipes", "demo"))

from steps import Runner, Step  # noqa: E402

DISTILLATIONS = {
    "deep & thin": "librispeech_960h student=deep_thin loss=reg",
    "deep & thin, discriminative": "librispeech_960h student=deep_thin loss=reg_disc",
    "deep & thin, Fbank": "librispeech_960h student=deep_thin frontend=fbank model.fbank_norm=utterance",
    "shallow & wide": "librispeech_960h student=shallow_wide loss=reg",
    "deep & thin, k-means": "librispeech_960h student=deep_thin loss=kmeans data=km50",
    "100 h": "librispeech_100h student=deep_thin loss=reg_disc",
}
FINE_TUNINGS = ("librispeech_10m", "librispeech_1h", "librispeech_10h", "librispeech_100h", "librispeech_960h")
PRECISIONS = {
    "fp16": "common.fp16=true common.bf16=false",
    "bf16": "common.fp16=false common.bf16=true",
    "fp32": "common.fp16=false common.bf16=false",
}
INNER = re.compile(
    r"train_inner.* loss=([\d.]+).*?ups=([\d.]+).*?bsz=([\d.]+), num_updates=(\d+)(?:.*gb_free=([\d.]+))?"
)
COLUMNS = ("training", "updates", "first loss", "last loss", "audio s/s", "GB free", "overflows")


class Plan:
    """The steps: full-size on a GPU, or a rehearsal of them on a CPU."""

    def __init__(self, out: str, rehearse: bool, gpus: int):
        self.out, self.rehearse = out, rehearse
        self.updates = 4 if rehearse else 50
        self.precisions = ("fp32",) if rehearse else ("fp16", "bf16")
        self.distillations = dict(list(DISTILLATIONS.items())[1:3]) if rehearse else DISTILLATIONS
        self.fine_tunings = FINE_TUNINGS[2:3] if rehearse else FINE_TUNINGS
        self.workers = 2 if rehearse or gpus > 1 else 1

    def steps(self) -> List[Step]:
        tiny = " --tiny" if self.rehearse else ""
        steps = [Step("data", [f"python benchmarks/random_data.py {self.out}{tiny}"], f"{self.out}/data")]
        first = next(iter(self.distillations))
        for precision in self.precisions:
            for name in self.distillations:
                steps.append(self.distil(name, precision))
            for recipe in self.fine_tunings:
                steps.append(self.fine_tune(recipe, precision, first))
            steps.append(self.taught(self.fine_tunings[-1], precision, first))
        precision = self.precisions[-1]
        steps.append(self.distil(first, precision, f"python benchmarks/killed.py {self.updates // 2} ", "killed"))
        if self.workers > 1:
            more = " distributed_training.distributed_world_size=2"
            steps.append(self.distil(first, precision, suffix="two workers", more=more))
        model = f"{self.fine_tunings[-1]} {precision}"
        steps += [self.decode(model, "cpu", "true")] + [self.decode(model, "gpu", "false")] * (not self.rehearse)
        if not self.rehearse:
            command = "python benchmarks/distillation_update.py --device cuda --bf16 --size 10x24"
            steps.append(Step("updates", [f"{command} --plot {self.out}/update.png"], None))
        return steps

    def train(self, folder: str, recipe: str, name: str, precision: str, more: str) -> str:
        """A training of a few updates, saved once in its middle."""
        half = self.updates // 2
        small = " gpus=cpu dataset.num_workers=1 dataset.batch_size=2" if self.rehearse else ""
        return (
            f"python -m distill_user_dir.train --config-dir {ROOT}/recipes/{folder} --config-name {recipe}{small} "
            f"{PRECISIONS[precision]} common.user_dir={ROOT}/distill_user_dir task.data={self.out}/data "
            f"dataset.train_subset=train dataset.valid_subset=valid optimization.max_update={self.updates} "
            f"checkpoint.save_interval_updates={half} dataset.validate_interval_updates={half} "
            f"common.log_format=simple common.log_interval={max(1, self.updates // 10)} "
            f"checkpoint.save_dir='{self.folder(name)}' "
            f"hydra.run.dir='{self.folder(name)}/hydra' {more}"
        )

    def folder(self, name: str) -> str:
        return f"{self.out}/{re.sub(r'[^a-z0-9]+', '_', name)}"

    def distil(self, name: str, precision: str, start: str = "", suffix: str = "", more: str = "") -> Step:
        label = " ".join(filter(None, (name, precision, suffix)))
        stage = f" criterion.frontend_updates={self.updates // 2}" if "fbank" in self.distillations[name] else ""
        tiny = " model.encoder_embed_dim=48 model.encoder_attention_heads=4" if self.rehearse else ""
        options = f"task.teacher_path={self.out}/teacher.pt lr_scheduler.warmup_updates=5{stage}{tiny}{more}"
        command = self.train("distill", self.distillations[name], label, precision, options)
        return Step(label, [start + command], self.folder(label), ("data",))

    def fine_tune(self, recipe: str, precision: str, student: str) -> Step:
        """Past the updates with a frozen encoder, at once."""
        label, start = f"{recipe} {precision}", f"{student} {precision}"
        options = f"model.w2v_path='{self.folder(start)}/checkpoint_last.pt' model.freeze_finetune_updates=2"
        command = self.train("finetune", recipe, label, precision, options)
        return Step(label, [command], self.folder(label), (start,))

    def taught(self, recipe: str, precision: str, student: str) -> Step:
        """By a fine-tuned model, without transcripts."""
        teacher, label = f"{recipe} {precision}", f"{recipe} taught {precision}"
        options = (
            f"loss=ctc_distillation task.teacher_path='{self.folder(teacher)}/checkpoint_last.pt' "
            f"'task.unlabelled=[train]' model.freeze_finetune_updates=2 "
            f"model.w2v_path='{self.folder(f'{student} {precision}')}/checkpoint_last.pt'"
        )
        return Step(label, [self.train("finetune", recipe, label, precision, options)], self.folder(label), (teacher,))

    def decode(self, model: str, device: str, cpu: str) -> Step:
        results = f"{self.out}/decode_{device}"
        command = (
            f"python -m distill_user_dir.infer --config-dir {ROOT}/recipes/decode --config-name viterbi "
            f"common.cpu={cpu} task.data={self.out}/data common_eval.path='{self.folder(model)}/checkpoint_last.pt' "
            f"dataset.gen_subset=test decoding.results_path={results}"
        )
        return Step(f"decode {device}", [command], results, (model,))

    def seconds(self) -> float:
        """Of an utterance of the training split, on average."""
        with open(f"{self.out}/data/train.tsv", encoding="utf-8") as file:
            sizes = [int(line.split("\t")[1]) for line in file.read().splitlines()[1:]]
        return sum(sizes) / len(sizes) / 16000


def measured(log: str, seconds: float) -> List[str]:
    """Updates, first and last loss, seconds of audio a second, free memory and overflows of a training, by its log."""
    found = [match.groups() for match in map(INNER.search, log.splitlines()) if match]
    if not found:
        raise ValueError("no progress in the log of this step: remove its `done` marker and start again")
    rates = sorted(float(ups) * float(bsz) * seconds for _, ups, bsz, _, _ in found[1:] or found)
    losses = [f"{float(found[i][0]):.3f}" for i in (0, -1)]
    rate = f"{rates[len(rates) // 2]:.1f}"
    return [found[-1][3], *losses, rate, found[-1][4] or "", str(log.count("overflow detected"))]


def read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def decodes(out: str) -> List[str]:
    """Word error rates, and how many transcripts of the GPU are the CPU's."""
    places = [place for place in ("gpu", "cpu") if os.path.exists(f"{out}/decode_{place}/wer.json")]
    lines = [
        f"Decoded on the {one}: WER {json.loads(read(f'{out}/decode_{one}/wer.json'))['wer']:.2f}." for one in places
    ]
    if len(places) == 2:
        gpu, cpu = (read(f"{out}/decode_{place}/utterances.tsv").splitlines()[1:] for place in places)
        lines.append(f"{sum(one == other for one, other in zip(gpu, cpu))} of {len(cpu)} transcripts are the same.")
    return ["", *lines]


def report(plan: Plan, steps: List[Step], device: str) -> str:
    """The table, as Markdown."""
    lines = [f"# Checked on {device}, torch {torch.__version__}", "", f"`{' '.join(['python', *sys.argv])}`", ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for step in steps:
        if "distill_user_dir.train" in step.commands[0]:
            cells = measured(read(f"{plan.out}/logs/{step.name}.log"), plan.seconds())
            lines.append("| " + " | ".join([step.name, *cells]) + " |")
    lines += decodes(plan.out)
    updates = f"{plan.out}/logs/updates.log"
    if os.path.exists(updates):
        lines += ["", "```", read(updates).strip(), "```"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=f"{ROOT}/out/check_gpu", help="folder of everything (out/check_gpu)")
    parser.add_argument("--table", metavar="MD", help="(docs/gpu.md, or of a rehearsal OUT/gpu.md)")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, with tiny models")
    args = parser.parse_args()
    gpus = torch.cuda.device_count()
    if not gpus and not args.rehearse:
        parser.error("torch sees no GPU; --rehearse runs all of it on a CPU, tiny")
    out = os.path.abspath(args.out)
    plan = Plan(out, args.rehearse, gpus)
    steps = plan.steps()
    Runner(steps, out, ROOT).run()
    device = "a CPU, in rehearsal" if args.rehearse else f"{gpus} x {torch.cuda.get_device_name()}"
    table = args.table or (f"{out}/gpu.md" if args.rehearse else f"{ROOT}/docs/gpu.md")
    text = report(plan, steps, device)
    with open(table, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"\n{text}\n{table}")


if __name__ == "__main__":
    sys.exit(main())
