"""Heads that say which cluster a frame belongs to, for any number of label sets, one set at a time."""

from typing import List, NamedTuple, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cosines(x: Tensor, codebook: Tensor) -> Tensor:
    """(F, D), (C, D) -> (F, C) cosine similarities in float32, as one product of normalised matrices."""
    with torch.autocast(x.device.type, enabled=False):  # else mixed precision would round what a temperature magnifies
        return F.normalize(x.float(), dim=-1) @ F.normalize(codebook.float(), dim=-1).t()


class SetPrediction(NamedTuple):
    """What one label set's logits are made of, when they are wanted. frames: (F, dim); weight, bias: of its projection,
    (out, dim) and (out,); codebook: (C, out), or None where the projection gives the logits.

    A model's forward returns it with the parameters inside, so that data parallelism finds them among the outputs.
    """

    frames: Tensor
    weight: Tensor
    bias: Tensor
    codebook: Optional[Tensor] = None

    def logits(self) -> Tensor:
        """(F, C), not divided by a temperature."""
        x = F.linear(self.frames, self.weight, self.bias)
        return x if self.codebook is None else cosines(x, self.codebook)


class CodebookHead(nn.Module):
    """A Linear to the width of the cluster embeddings, and the cosines with them (HuBERT, Hsu et al., equation 3).

    The embeddings are a frozen buffer `codebook`, (sum of sizes, embed_dim), to be filled with the teacher's. Each
    label set has a projection of its own, or all share one where `tied` (fairseq's `untie_final_proj=false`).
    """

    def __init__(self, dim: int, embed_dim: int, sizes: Sequence[int], tied: bool = False):
        super().__init__()
        self.sizes, self.tied = list(sizes), tied
        self.projection = nn.Linear(dim, embed_dim * (1 if tied else len(sizes)))
        self.register_buffer("codebook", torch.zeros(sum(sizes), embed_dim))

    def of_set(self, number: int, x: Tensor) -> SetPrediction:
        """(F, dim) frames, for a label set counted from 0."""
        parts = [self.codebook.size(1)] * (1 if self.tied else len(self.sizes))
        weight, bias = part_of(self.projection, parts, 0 if self.tied else number)
        return SetPrediction(x, weight, bias, self.codebook.split(self.sizes)[number])

    def forward(self, x: Tensor, number: int = 0) -> Tensor:
        """(F, dim) -> (F, clusters of a label set) cosines, not divided by a temperature."""
        return self.of_set(number, x).logits()


class LinearHead(nn.Module):
    """A Linear to the number of clusters."""

    def __init__(self, dim: int, sizes: Sequence[int]):
        super().__init__()
        self.sizes = list(sizes)
        self.projection = nn.Linear(dim, sum(sizes))

    def of_set(self, number: int, x: Tensor) -> SetPrediction:
        """(F, dim) frames, for a label set counted from 0."""
        return SetPrediction(x, *part_of(self.projection, self.sizes, number))

    def forward(self, x: Tensor, number: int = 0) -> Tensor:
        """(F, dim) -> (F, clusters of a label set) logits, not divided by a temperature."""
        return self.of_set(number, x).logits()


def part_of(projection: nn.Linear, sizes: List[int], number: int) -> List[Tensor]:
    """Weight and bias of one of the parts that the outputs of a Linear are divided into."""
    return [whole.split(sizes)[number] for whole in (projection.weight, projection.bias)]


class CentresHead(nn.Module):
    """How near frames are to the centres of a k-means: the logits of softmax(-||h - c||^2 / V), where V is the mean of
    ||c - m||^2 over the centres and m their mean, so that a temperature means the same for features of any scale.

    For each label set (C, dim) centres, which are not all the same.
    """

    def __init__(self, centres: Sequence[Tensor]):
        super().__init__()
        self.sizes = [len(one) for one in centres]
        for number, one in enumerate(centres):
            mean = one.double().mean(0)
            spread = (one.double() - mean).square().sum(-1)
            # -||h - c||^2 = 2 (h - m)(c - m) - ||c - m||^2 - ||h - m||^2, and the last is the same for all centres
            self.register_buffer(f"mean_{number}", mean.float())
            self.register_buffer(f"weight_{number}", (2 * (one.double() - mean) / spread.mean()).float())
            self.register_buffer(f"bias_{number}", -(spread / spread.mean()).float())

    def forward(self, x: Tensor, number: int = 0) -> Tensor:
        """(F, dim) -> (F, centres of a label set) float32, not divided by a temperature."""
        mean, weight, bias = (getattr(self, f"{name}_{number}") for name in ("mean", "weight", "bias"))
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float() - mean, weight, bias)


def cluster_head(kind: str, dim: int, embed_dim: int, sizes: Sequence[int]) -> nn.Module:
    """kind: `codebook` or `linear`; embed_dim: of the codebook's embeddings, of no use to `linear`."""
    return LinearHead(dim, sizes) if kind == "linear" else CodebookHead(dim, embed_dim, sizes)
