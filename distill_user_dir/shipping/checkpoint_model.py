"""A checkpoint as the runner's model."""

from typing import List, Sequence

import numpy as np
import torch

from distill_user_dir.machine import usable_device
from distill_user_dir.modules.conv_layers import receptive_field
from distill_user_dir.shipping.runner import padded
from distill_user_dir.student import load_student


class CheckpointModel:
    """frame_shift, window: samples from one frame to the next, and of the shortest audio that has a frame."""

    def __init__(self, path: str, device: str = "cpu"):
        """CheckpointError where the file is no student or HuBERT; ValueError where it was not fine-tuned."""
        self.device = usable_device(device)
        self.student = load_student(path).to(self.device)
        if self.student.proj is None:
            raise ValueError(f"{path}: not fine-tuned, it has features but no words; recipes/finetune gives it some")
        self.symbols, self.units, self.sample_rate = self.student.symbols, self.student.units, self.student.sample_rate
        self.window, self.frame_shift = receptive_field(self.student.encoder.conv_layers)

    @torch.inference_mode()
    def log_probs(self, audio: Sequence[np.ndarray]) -> List[np.ndarray]:
        """(samples,) float32 each -> (frames, units) each."""
        batch, lengths = (torch.from_numpy(one).to(self.device) for one in padded(audio, self.window))
        output = self.student(batch, lengths)
        return [one[:frames] for one, frames in zip(output.log_probs.cpu().numpy(), output.lengths.tolist())]
