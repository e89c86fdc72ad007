"""The teacher: frozen, in eval mode, cut off behind the last layer that is needed, and never part of a student."""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from distill_user_dir.checkpoints.building import build_hubert
from distill_user_dir.checkpoints.hubert import hubert_in
from distill_user_dir.modules.cluster_heads import CodebookHead
from distill_user_dir.modules.fold import fold
from distill_user_dir.modules.hubert import LengthAwareHubert
from distill_user_dir.modules.padding import Chosen


class TeacherOutput(NamedTuple):
    """layers: {1-based layer, or PROJECTED or LAYER_INPUT: (B, T, D)}; padding_mask: (B, T) bool, True where padded; x:
    (B, T, D), the output of the last layer that was run (behind the final LayerNorm of a pre-LN teacher that was run to
    its end); frames: (B,) valid frames, on the CPU where the lengths of the audio were given."""

    layers: Dict[int, Tensor]
    padding_mask: Tensor
    x: Tensor
    frames: Tensor


class Teacher:
    """Holds the model without being a module, so that neither a checkpoint nor data parallelism ever sees it."""

    def __init__(
        self,
        model: LengthAwareHubert,
        layers: Sequence[int],
        name: str = "the teacher",
        head: Optional[CodebookHead] = None,
        front: Optional[int] = None,
    ):
        """layers: those whose outputs are wanted, counted from 1. ValueError where the model has no such layer.
        head: to its clusters, if these are wanted; they need all of its layers. front: PROJECTED or LAYER_INPUT, if
        its front-end is wanted."""
        depth = len(model.encoder.layers)
        beyond = [layer for layer in layers if not 1 <= layer <= depth]
        if beyond:
            raise ValueError(f"model.layer_map asks for teacher layer {beyond[0]}, but {name} has layers 1 to {depth}")
        self.layers = sorted(set(layers))
        self.front = front
        self.last = depth if head is not None else max(self.layers, default=front)
        self.depth = depth
        self.model = model.eval().requires_grad_(False)
        self.head = None if head is None else head.eval().requires_grad_(False)
        self.place: Optional[Tuple[torch.device, torch.dtype]] = None

    @classmethod
    def load(cls, path: str, layers: Sequence[int], valid_statistics: bool = True) -> "Teacher":
        """From a HuBERT's or a student's checkpoint; CheckpointError where it is none."""
        return cls(load_whole(path, valid_statistics), layers, path).truncate()

    def truncate(self) -> "Teacher":
        """Drops the layers above the last one needed, which take memory and are never run, and folds the others."""
        del self.model.encoder.layers[max(self.last, 0) :]
        fold(self.model).eval()
        return self

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> "Teacher":
        """Its front-end and layers in this precision; the clusters stay float32."""
        if self.place != (device, dtype):
            self.model.to(device, dtype)
            if self.head is not None:
                self.head.to(device)
            self.place = (device, dtype)
        return self

    @torch.no_grad()
    def __call__(
        self,
        source: Tensor,
        padding_mask: Optional[Tensor] = None,
        layers: bool = True,
        front: bool = False,
        lengths: Optional[Sequence[int]] = None,
    ) -> TeacherOutput:
        """(B, N) raw audio, (B, N) bool padding mask or None -> the wanted layers and front-end, in its precision;
        it is run no further than these need. lengths: the samples of each utterance, where the CPU knows them."""
        keep = [*(self.layers if layers else ()), *((self.front,) if front else ())]
        last = self.last if layers else self.front
        encoded = self.model.encode(source, padding_mask, keep=keep, last=last, lengths=lengths)
        return TeacherOutput(encoded.layers, encoded.padding_mask, encoded.x, encoded.frames)

    @torch.no_grad()
    def clusters(self, output: TeacherOutput, frames: Chosen) -> List[Tensor]:
        """The output, F of its frames -> for each label set (F, C) cosines."""
        return self.head(frames.of(output.x).float())


def load_whole(path: str, valid_statistics: bool = True) -> LengthAwareHubert:
    """A teacher's model with all its layers, for a student to start from; CheckpointError where it is none."""
    return build_hubert(hubert_in(path), valid_statistics=valid_statistics)
