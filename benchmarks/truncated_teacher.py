"""Seconds of a distillation update with a teacher cut off behind the last layer needed, and with all of it, in turn.

python benchmarks/truncated_teacher.py                  # HuBERT-Base-shaped teacher, layers up to 4 of 12
python benchmarks/truncated_teacher.py --batch 1 --seconds 5 --updates 3
"""

import argparse

import torch
from omegaconf import OmegaConf

from distill_user_dir.losses.regression import regression
from distill_user_dir.measure import interleaved
from distill_user_dir.models.student_config import student_config
from distill_user_dir.models.student_hubert import StudentHubert
from distill_user_dir.modules.hubert import LengthAwareHubert
from distill_user_dir.teaching.teacher import Teacher

TASK = OmegaConf.create({"normalize": False, "sample_rate": 16000})


def update(student: StudentHubert, teacher: Teacher, audio: torch.Tensor) -> None:
    """Forward of both, regression loss, backward."""
    predicted = student(audio)
    with_all = teacher(audio)
    valid = predicted.valid
    losses = [
        regression(valid.of(layer), valid.of(with_all.layers[target]), "l1", 1.0)["loss"]
        for target, layer in zip(predicted.targets, predicted.layers)
    ]
    sum(losses).backward()
    student.zero_grad()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2, help="utterances (2)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of audio each (10)")
    parser.add_argument("--updates", type=int, default=5, help="timed, of each kind (5)")
    parser.add_argument("--layer", type=int, default=4, help="the last teacher layer needed, of 12 (4)")
    args = parser.parse_args()
    torch.manual_seed(1)
    config = student_config(
        {"encoder_layers": 2, "layer_map": [args.layer], "prediction_head": "expand-last", "teacher_embed_dim": 768}
    )
    student = StudentHubert(config, TASK)
    cut, whole = (
        Teacher(LengthAwareHubert(OmegaConf.merge(config, {"encoder_layers": 12}), TASK, [None]), layers)
        for layers in ([args.layer], [args.layer, 12])
    )
    cut.truncate()
    audio = torch.randn(args.batch, int(16000 * args.seconds))
    runs = {"truncated": lambda: update(student, cut, audio), "whole": lambda: update(student, whole, audio)}
    seconds = interleaved(runs, args.updates)
    size = f"{args.batch} x {args.seconds:g} s, {torch.get_num_threads()} threads"
    print(f"{size}, teacher needed up to layer {args.layer} of 12")
    for name, taken in seconds.items():
        print(f"  {name:<10} {taken:.2f} s an update")
    print(f"  ratio      {seconds['whole'] / seconds['truncated']:.2f}")


if __name__ == "__main__":
    main()
