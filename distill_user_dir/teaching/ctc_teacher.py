"""A fine-tuned teacher: its units for every frame, in the order of the student's dictionary."""

import os
from typing import Any, List, Optional, Sequence

import torch
from fairseq.data.dictionary import Dictionary
from torch import Tensor

from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.checkpoints.loading import CheckpointError, load
from distill_user_dir.data.manifest import read_dictionary
from distill_user_dir.losses.ctc import BLANK
from distill_user_dir.messages import quoted
from distill_user_dir.student import Student, load_student
from distill_user_dir.teaching.building import check_alignment
from distill_user_dir.teaching.teacher import Teacher, TeacherOutput

MOST_NAMED = 8  # units in an error


class CtcTeacher(Teacher):
    """A teacher that is run to its end, for its output layer."""

    def __init__(self, student: Student, order: Sequence[int], layers: Sequence[int], name: str):
        """order: for each of the student's units, the teacher's; layers: whose outputs are wanted too."""
        super().__init__(student.encoder, layers, name)
        self.last, self.units = self.depth, student.units
        self.proj = student.proj.eval().requires_grad_(False)
        self.order = torch.tensor(order)

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> "CtcTeacher":
        if self.place != (device, dtype):
            self.proj.to(device, dtype)
            self.order = self.order.to(device)
        super().to(device, dtype)
        return self

    @torch.no_grad()
    def logits(self, output: TeacherOutput) -> Tensor:
        """(B, T, V), in the order of the student's units."""
        return self.proj(output.x).index_select(-1, self.order)


def dictionary_in(path: str, given: Optional[str] = None) -> Dictionary:
    """Of a fine-tuned checkpoint, or the file that is given in its place. CheckpointError or ValueError where there is
    none."""
    content = load(path, mapped=True)
    if not hubert_in(path, content).fine_tuned:
        raise ValueError(f"{path}: not fine-tuned, it has no units to teach; fine-tune it with recipes/finetune first")
    if given and not os.path.isfile(given):
        raise ValueError(f"task.teacher_dict={given}: no such file")
    if given:
        return read_dictionary(given)
    found = (content.get("task_state") or {}).get("target_dictionary")
    if found is None:
        raise CheckpointError(f"{path}: it holds no dictionary of its units; name the file with task.teacher_dict")
    return found


def order_of(student: Dictionary, teacher: Dictionary, path: str) -> List[int]:
    """For each of the student's units, the teacher's index; ValueError where their symbols are not the same."""
    ours, theirs = set(student.symbols), set(teacher.symbols)
    for kind, only in (("lacks", ours - theirs), ("has", theirs - ours)):
        if only:
            named = ", ".join(quoted(symbol) for symbol in sorted(only)[:MOST_NAMED])
            more = f" and {len(only) - MOST_NAMED} more" if len(only) > MOST_NAMED else ""
            raise ValueError(
                f"{path}: the teacher {kind} {named}{more}, unlike the dictionary of task.label_dir; take the teacher's"
            )
    order = [teacher.indices[symbol] for symbol in student.symbols]
    if order[BLANK] != BLANK or len(theirs) != len(teacher.symbols):
        raise ValueError(f"{path}: its dictionary has a symbol twice, or begins with another than {student.symbols[0]}")
    return order


def load_ctc_teacher(task: Any, student: Any) -> CtcTeacher:
    """The teacher of `task.teacher_path` for a `student_ctc`. CheckpointError or ValueError where it cannot teach."""
    path = task.cfg.teacher_path
    dictionary = dictionary_in(path, task.cfg.teacher_dict)
    teacher = load_student(path, valid_statistics=task.cfg.teacher_valid_statistics, dictionary=dictionary)
    order, learner = order_of(task.target_dictionary, dictionary, path), student.w2v_encoder.w2v_model
    check_alignment(learner, teacher.encoder, path)
    layers, width = getattr(learner, "targets", []), learner.configs["model"].get("teacher_embed_dim")
    if layers and width != teacher.encoder.embed_dim:
        raise ValueError(f"{path}: layers of {teacher.encoder.embed_dim} wide, and the student's heads predict {width}")
    return CtcTeacher(teacher, order, layers, path)
