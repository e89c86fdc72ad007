"""Full-size fine-tuning updates: CTC on transcripts, and a fine-tuned teacher in their place.

    python benchmarks/finetuning_update.py                             # 2 x 10 s, two threads
    python benchmarks/finetuning_update.py --device cuda --bf16 --size 10x20

The deep & thin student with its CNN frozen and a teacher of HuBERT Base's shape (random weights), with our own
criterions and Adam. Updates of all are taken in turn; memory is the peak beyond what models, gradients and moments
take, each in a process of its own on a CPU.
"""

import argparse
import logging
import os
import tempfile
from types import SimpleNamespace
from typing import Any, Callable, Dict

import torch
import yaml
from fairseq.criterions.ctc import CtcCriterion, CtcCriterionConfig
from fairseq.data.dictionary import Dictionary
from omegaconf import OmegaConf
from random_data import write_teacher
from torch import nn

from distill_user_dir.checkpoints.building import build_hubert
from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.criterions.ctc_distillation import CtcDistillationConfig, CtcDistillationCriterion
from distill_user_dir.data.dataset import TRANSCRIPT
from distill_user_dir.measure import interleaved, peak_memory
from distill_user_dir.models.student_ctc import StudentCtc, StudentCtcConfig
from distill_user_dir.modules.fold import fold
from distill_user_dir.student import Student
from distill_user_dir.teaching.ctc_teacher import CtcTeacher

STRUCTURE = "recipes/distill/student/deep_thin.yaml"
LETTERS = "|ETAOINHSRDLUMWCFGYPBVK'XJQZ"
A_SECOND = 15  # letters
KINDS: Dict[str, Dict[str, float]] = {
    "ctc": {},
    "frames": {"pseudo_weight": 0.0},
    "words": {"frame_weight": 0.0},
    "frames, words": {"frame_weight": 1.0, "pseudo_weight": 1.0},
    "frames, transcripts": {"pseudo_weight": 0.0, "transcript_weight": 1.0},
}


def task_of(teacher: str) -> Any:
    """What the criterions and the model ask of a task."""
    letters = Dictionary()
    for letter in LETTERS:
        letters.add_symbol(letter)
    cfg = SimpleNamespace(
        fine_tuning=True, train_subset="train", unlabelled=[], pseudo_labelled=[], labelled_share=None, teacher_path="/"
    )
    encoder = fold(build_hubert(hubert_in(teacher)))
    taught = Student(encoder, nn.Linear(encoder.embed_dim, len(letters)), letters.symbols)
    made = CtcTeacher(taught, range(len(letters)), [], "teacher")
    return SimpleNamespace(cfg=cfg, target_dictionary=letters, source_dictionary=None, teacher=made)


def student_of(task: Any) -> StudentCtc:
    with open(STRUCTURE, encoding="utf-8") as file:
        structure = {**yaml.safe_load(file), "_name": "student_hubert", "label_rate": 50.0, "teacher_embed_dim": 768}
    args = {"model": structure, "task": {"_name": "hubert_distillation", "data": "/", "sample_rate": 16000}}
    cfg = {
        "w2v_args": args,
        "w2v_path": "",
        "apply_mask": True,
        "mask_prob": 0.58,
        "feature_grad_mult": 0.0,
        "data": "/",
    }
    return StudentCtc.build_model(OmegaConf.merge(OmegaConf.structured(StudentCtcConfig), cfg), task)


def sample_of(size: str, device: str) -> Dict[str, Any]:
    """Noise of one length, and letters at the rate of speech."""
    seconds, utterances = float(size.split("x")[0]), int(size.split("x")[1])
    audio = 0.1 * torch.randn(utterances, int(16000 * seconds), dtype=torch.double)
    target = torch.randint(4, 4 + len(LETTERS), (utterances, int(A_SECOND * seconds)))
    return {
        "id": torch.arange(utterances),
        "net_input": {"source": audio.to(device), "padding_mask": None},
        "lengths": [audio.size(1)] * utterances,
        "sources": [TRANSCRIPT] * utterances,
        "target": target.to(device),
        "target_lengths": torch.full((utterances,), target.size(1), device=device),
        "ntokens": target.numel(),
    }


def prepare(kind: str, teacher: str, size: str, device: str = "cpu", bf16: bool = False) -> Callable[[], None]:
    """An update, of which a first one has been done: moments and gradients are there."""
    logging.disable(logging.INFO)  # fairseq logs every config
    torch.manual_seed(1)
    task = task_of(teacher)
    student = student_of(task).to(device).train()
    student = student.bfloat16() if bf16 else student
    if kind == "ctc":
        options = {"zero_infinity": True, "post_process": "letter", "sentence_avg": False}
        criterion = CtcCriterion(OmegaConf.merge(OmegaConf.structured(CtcCriterionConfig), options), task)
    else:
        options = {**KINDS[kind], "post_process": "letter", "sentence_avg": False}
        criterion = CtcDistillationCriterion(
            OmegaConf.merge(OmegaConf.structured(CtcDistillationConfig), options), task
        )
    optimizer, sample = torch.optim.AdamW(student.parameters(), lr=1e-4, fused=True), sample_of(size, device)

    def update() -> None:
        criterion(student, sample)[0].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    update()
    return update


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="10x2", help="seconds x utterances (10x2)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--bf16", action="store_true", help="the student's weights in bfloat16, as common.bf16")
    parser.add_argument("--rounds", type=int, default=5, help="timed (5)")
    parser.add_argument("--threads", type=int, default=2, help="(2)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.size} s, {args.device}, {args.threads} threads" + (", bf16" if args.bf16 else ""))
    with tempfile.TemporaryDirectory() as folder:
        teacher = os.path.join(folder, "teacher.pt")
        write_teacher(teacher)
        runs = {kind: prepare(kind, teacher, args.size, args.device, args.bf16) for kind in KINDS}
        seconds = interleaved(runs, args.rounds)
        print(f"{'update':<20}{'s':>8}{'of ctc':>8}{'peak MB':>9}")
        for kind, run in runs.items():
            if args.device == "cuda":
                held = torch.cuda.memory_allocated()
                torch.cuda.reset_peak_memory_stats()
                run()
                memory = torch.cuda.max_memory_allocated() - held
            else:
                memory = peak_memory(prepare, kind, teacher, args.size)[1]
            print(f"{kind:<20}{seconds[kind]:8.3f}{seconds[kind] / seconds['ctc']:8.2f}{memory / 1e6:9.0f}")


if __name__ == "__main__":
    main()
