"""A checkpoint as the runner's model."""

from typing import List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from distill_user_dir.machine import usable_device
from distill_user_dir.modules.conv_layers import receptive_field
from distill_user_dir.modules.padding import padding_mask
from distill_user_dir.shipping.runner import padded
from distill_user_dir.student import Student, load_student


class CheckpointModel:
    """frame_shift, window: samples from one frame to the next, and of the shortest audio that has a frame."""

    def __init__(self, path: str, device: str = "cpu", words: bool = True):
        """words: refuse a model without CTC. CheckpointError where the file is no student or HuBERT, ValueError where
        it was not fine-tuned."""
        self.device = usable_device(device)
        self.student = load_student(path).to(self.device)
        if words and self.student.proj is None:
            raise ValueError(f"{path}: not fine-tuned, it has features but no words; recipes/finetune gives it some")
        self.symbols, self.units, self.sample_rate = self.student.symbols, self.student.units, self.student.sample_rate
        self.window, self.frame_shift = receptive_field(self.student.encoder.conv_layers)

    @torch.inference_mode()
    def outputs(self, audio: Sequence[np.ndarray]) -> List[np.ndarray]:
        """(samples,) float32 each -> (frames, units) log-probabilities each, or (frames, width) features of a model
        without CTC."""
        batch, lengths = (torch.from_numpy(one).to(self.device) for one in padded(audio, self.window))
        found, frames = outputs_of(self.student, batch, lengths)
        return [one[:count] for one, count in zip(found.cpu().numpy(), frames.tolist())]


def outputs_of(student: Student, audio: Tensor, lengths: Tensor) -> Tuple[Tensor, Tensor]:
    """(B, N) float32 audio with zeros behind it, (B,) samples -> (B, T, V) log-probabilities, or (B, T, D) features
    behind the last layer of a student without CTC; (B,) frames."""
    if student.proj is not None:
        output = student(audio, lengths)
        return output.log_probs, output.lengths
    encoded = student.encoder.encode(audio, padding_mask(lengths, audio.size(1)))
    return encoded.x, encoded.frames
