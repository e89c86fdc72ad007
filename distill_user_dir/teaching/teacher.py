"""The teacher: frozen, in eval mode, cut off behind the last layer that is needed, and never part of a student."""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from distill_user_dir.checkpoints.building import build_hubert
from distill_user_dir.checkpoints.hubert import hubert_in
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
        head: Optional[nn.Module] = None,
        front: Optional[int] = None,
        head_layers: Sequence[int] = (),
    ):
        """layers: those whose outputs are wanted, counted from 1. ValueError where the model has no such layer.
        head: to its clusters, if these are wanted, a CodebookHead or a CentresHead; head_layers: the layer that it
        finds those of each label set by, or none where that is the output behind all layers. front: PROJECTED or
        LAYER_INPUT, if its front-end is wanted."""
        depth = len(model.encoder.layers)
        beyond = [layer for layer in layers if not 1 <= layer <= depth]
        if beyond:
            raise ValueError(f"model.layer_map asks for teacher layer {beyond[0]}, but {name} has layers 1 to {depth}")
        self.layers, self.head_layers = sorted({*layers, *head_layers}), list(head_layers)
        self.front = front
        self.last = depth if head is not None and not head_layers else max(self.layers, default=front)
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

    def chosen(self, output: TeacherOutput, frames: Chosen) -> List[Tensor]:
        """The output, F of its frames -> for each label set the (F, D) frames that its clusters are found by."""
        if not self.head_layers:
            return [frames.of(output.x)] * len(self.head.sizes)
        chosen = {layer: frames.of(output.layers[layer]) for layer in set(self.head_layers)}
        return [chosen[layer] for layer in self.head_layers]

    @torch.no_grad()
    def clusters(self, frames: Tensor, number: int) -> Tensor:
        """(F, D) of these frames -> (F, C) logits of a label set, counted from 0, not divided by a temperature."""
        return self.head(frames.float(), number)


def load_whole(path: str, valid_statistics: bool = True) -> LengthAwareHubert:
    """A teacher's model with all its layers, for a student to start from; CheckpointError where it is none."""
    return build_hubert(hubert_in(path), valid_statistics=valid_statistics)
