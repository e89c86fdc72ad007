"""Memory and time of the discriminative loss, forward and backward, with several label sets, and its share of a
distillation update.

python benchmarks/discriminative_loss.py                  # 9,000 frames, 504 clusters, a full-size update of 2 x 10 s
python benchmarks/discriminative_loss.py --frames 9000 --broadcast-frames 9000      # needs 25 GB

Beside the matrix product stands the form of earlier code, which broadcasts frames and clusters against each other
before it takes cosines; by default on fewer frames, since all of it grows with their number. Several label sets are
judged one at a time, as the criterion has it: beside one set they take their inputs and gradients, but no more logits.
"""

import argparse
import logging
import os
from typing import Callable, Tuple

import torch
from omegaconf import OmegaConf
from torch import Tensor

from distill_user_dir.criterions.discriminative import Temperatures, sums_of_sets
from distill_user_dir.losses.discriminative import soft_loss
from distill_user_dir.losses.regression import regression
from distill_user_dir.measure import interleaved, peak_memory
from distill_user_dir.models.student_config import student_config
from distill_user_dir.models.student_hubert import StudentHubert
from distill_user_dir.modules.cluster_heads import CodebookHead, LinearHead, cosines
from distill_user_dir.modules.hubert import LengthAwareHubert
from distill_user_dir.modules.padding import Chosen
from distill_user_dir.teaching.teacher import Teacher, TeacherOutput

EMBED_DIM = 256
TASK = OmegaConf.create({"normalize": False, "sample_rate": 16000})


def broadcast(x: Tensor, codebook: Tensor) -> Tensor:
    """(F, D), (C, D) -> (F, C), by way of (C, F, D)."""
    return torch.cosine_similarity(x.float(), codebook.unsqueeze(1).expand(-1, x.size(0), -1).float(), dim=-1).t()


FORMS = {"matrix product": cosines, "broadcast": broadcast}


def loss(form: str, frames: int, clusters: int) -> Callable[[], float]:
    """Soft loss of random projections of student and teacher, with its gradient."""
    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(frames, EMBED_DIM, generator=generator) for _ in range(2))
    codebook = torch.rand(clusters, EMBED_DIM, generator=generator)

    def run() -> float:
        x = student.clone().requires_grad_()
        with torch.no_grad():
            target = FORMS[form](teacher, codebook)
        value = soft_loss(FORMS[form](x, codebook), target, 0.1, 0.1)
        value.backward()
        return float(value.detach()) / frames

    return run


def form_table(frames: int, broadcast_frames: int, clusters: int, rounds: int) -> None:
    print(f"{clusters} clusters, embeddings of {EMBED_DIM}, float32, forward and backward")
    for form, count in (
        ("matrix product", frames),
        ("matrix product", broadcast_frames),
        ("broadcast", broadcast_frames),
    ):
        run = loss(form, count, clusters)
        seconds = interleaved({form: run}, rounds)[form]
        peak = peak_memory(loss, form, count, clusters)[1]
        print(f"  {form:<15} {count:>6} frames  {peak / 1e6:>8.0f} MB  {seconds:>7.3f} s  loss {run():.5f}")


def label_sets(sets: int, frames: int, clusters: int) -> Callable[[], float]:
    """Soft loss of a linear head on several label sets, each with frames and a teacher's frames of its own."""
    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(sets, frames, EMBED_DIM, generator=generator) for _ in range(2))
    head, theirs = (LinearHead(EMBED_DIM, [clusters] * sets) for _ in range(2))

    def run(count: int = frames) -> float:
        @torch.no_grad()
        def target(number: int) -> Tensor:
            return theirs(teacher[number, :count], number)

        made = [head.of_set(number, x[:count].clone().requires_grad_()) for number, x in enumerate(student)]
        value = sum(loss for loss, _, _ in sums_of_sets(made, target, Temperatures(1.0, 1.0)))
        value.backward()
        return float(value.detach()) / count

    run(2)  # what torch imports at the first time is no part of it
    return run


def sets_table(frames: int, clusters: int, rounds: int) -> None:
    print(f"label sets of {clusters} clusters, {frames} frames of {EMBED_DIM}, float32, forward and backward")
    for sets in (1, 3):
        seconds = interleaved({"": label_sets(sets, frames, clusters)}, rounds)[""]
        peak = peak_memory(label_sets, sets, frames, clusters)[1]
        print(f"  {sets} of them        {peak / 1e6:>8.0f} MB  {seconds:>7.3f} s")


def pair(clusters: int) -> Tuple[StudentHubert, Teacher]:
    """A deep-and-thin student and a HuBERT-Base-shaped teacher, both with random weights and clusters."""
    torch.manual_seed(1)
    config = student_config(
        {
            "encoder_layers": 12,
            "encoder_embed_dim": 480,
            "encoder_ffn_embed_dim": 480,
            "layer_map": list(range(1, 13)),
            "teacher_embed_dim": 768,
            "discriminative_weight": 1.0,
            "cluster_sizes": [clusters],
            "codebook_dim": EMBED_DIM,
        }
    )
    student = StudentHubert(config, TASK)
    base = student_config({"encoder_layers": 12})
    head = CodebookHead(768, EMBED_DIM, [clusters])
    for codebook in (student.cluster_head.codebook, head.codebook):
        torch.nn.init.uniform_(codebook)
    teacher = Teacher(LengthAwareHubert(base, TASK, [None]), student.targets, head=head)
    return student, teacher


def said(teacher: Teacher, output: TeacherOutput, frames: Chosen) -> Tensor:
    """(F, C) logits of the teacher's one label set."""
    return teacher.clusters(teacher.chosen(output, frames)[0], 0)


def update_share(batch: int, seconds: float, clusters: int, rounds: int) -> None:
    """A deep-and-thin student under a HuBERT-Base-shaped teacher: the whole update, and the discriminative part of it
    (heads of both, loss, and backward to the student's last layer)."""
    student, teacher = pair(clusters)
    audio = torch.randn(batch, int(16000 * seconds))
    frames = teacher(audio)
    top = torch.randn(*frames.x.shape[:2], 480)

    def update() -> None:
        predicted, given = student(audio), teacher(audio)
        valid = predicted.valid
        total = soft_loss(predicted.clusters[0].logits(), said(teacher, given, valid), 0.1, 0.1)
        for target, layer in zip(predicted.targets, predicted.layers):
            total = total + regression(valid.of(layer), valid.of(given.layers[target]), "l1", 1.0)["loss"]
        total.backward()
        student.zero_grad()

    def discriminative() -> None:
        valid = Chosen.where(~frames.padding_mask, audio.device)
        x = top.clone().requires_grad_()
        soft_loss(student.cluster_head(valid.of(x)), said(teacher, frames, valid), 0.1, 0.1).backward()
        student.zero_grad()

    taken = interleaved({"update": update, "discriminative": discriminative}, rounds)
    print(f"update of {batch} x {seconds:g} s, {torch.get_num_threads()} threads: {taken['update']:.2f} s")
    print(
        f"  discriminative part {1000 * taken['discriminative']:.1f} ms, "
        f"{100 * taken['discriminative'] / taken['update']:.2f}%"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=9000, help="of the matrix product (9000)")
    parser.add_argument("--broadcast-frames", type=int, default=1000, help="of the other form (1000)")
    parser.add_argument("--clusters", type=int, default=504, help="(504)")
    parser.add_argument("--batch", type=int, default=2, help="utterances of the update (2)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of audio each (10)")
    parser.add_argument("--rounds", type=int, default=3, help="timed (3)")
    args = parser.parse_args()
    logging.disable(logging.INFO)  # fairseq logs every config
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # glibc of later processes: what is freed is no longer resident
    form_table(args.frames, args.broadcast_frames, args.clusters, args.rounds)
    sets_table(args.frames, args.clusters, args.rounds)
    update_share(args.batch, args.seconds, args.clusters, args.rounds)


if __name__ == "__main__":
    main()
