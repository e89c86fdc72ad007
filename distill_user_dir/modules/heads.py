"""Prediction heads: from student layers to the width of the teacher's."""

from typing import List, Sequence

import torch
from torch import Tensor, nn


class LayerWiseHead(nn.Module):
    """One Linear for each student layer that predicts a teacher layer (Wang et al., section 3.1)."""

    def __init__(self, layer_map: Sequence[int], student_dim: int, teacher_dim: int):
        super().__init__()
        self.student_layers = [i for i, target in enumerate(layer_map) if target > 0]
        self.projections = nn.ModuleList(nn.Linear(student_dim, teacher_dim) for _ in self.student_layers)

    def forward(self, layers: Sequence[Tensor]) -> List[Tensor]:
        """The outputs of all student layers, each (B, T, student_dim) -> predictions, each (B, T, teacher_dim)."""
        return [project(layers[i]) for i, project in zip(self.student_layers, self.projections)]


class SplitLinear(nn.Module):
    """A Linear of its own for each of `parts` equal parts of the input (DistilHuBERT, Chang et al., 2022)."""

    def __init__(self, in_dim: int, parts: int, out_dim: int):
        super().__init__()
        self.parts = parts
        self.weight = nn.Parameter(torch.empty(parts, in_dim, out_dim).uniform_(-(in_dim**-0.5), in_dim**-0.5))
        self.bias = nn.Parameter(torch.empty(parts, out_dim).uniform_(-(in_dim**-0.5), in_dim**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, parts * in_dim) -> (B, T, parts, out_dim)."""
        split = x.unflatten(-1, (self.parts, -1))
        return torch.einsum("btpi,pio->btpo", split, self.weight) + self.bias


class ExpandLastHead(nn.Module):
    """Linear, GELU, split Linear on the last layer, which predicts several teacher layers at once."""

    def __init__(self, layer_map: Sequence[int], student_dim: int, teacher_dim: int):
        super().__init__()
        parts = len(layer_map)
        self.expand = nn.Linear(student_dim, student_dim * parts)
        self.split = SplitLinear(student_dim, parts, teacher_dim)

    def forward(self, layers: Sequence[Tensor]) -> List[Tensor]:
        """The outputs of all student layers, each (B, T, student_dim) -> predictions, each (B, T, teacher_dim)."""
        return list(self.split(nn.functional.gelu(self.expand(layers[-1]))).unbind(2))


HEADS = {"layer-wise": LayerWiseHead, "expand-last": ExpandLastHead}
