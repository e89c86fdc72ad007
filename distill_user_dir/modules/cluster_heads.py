"""Heads that say which cluster a frame belongs to, for any number of label sets."""

from typing import List, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cosines(x: Tensor, codebook: Tensor) -> Tensor:
    """(F, D), (C, D) -> (F, C) cosine similarities in float32, as one product of normalised matrices."""
    with torch.autocast(x.device.type, enabled=False):  # else mixed precision would round what a temperature magnifies
        return F.normalize(x.float(), dim=-1) @ F.normalize(codebook.float(), dim=-1).t()


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

    def forward(self, x: Tensor) -> List[Tensor]:
        """(F, dim) -> for each label set (F, clusters) cosines, not divided by a temperature."""
        x = self.projection(x)
        parts = [x] * len(self.sizes) if self.tied else x.chunk(len(self.sizes), -1)
        return [cosines(part, codebook) for part, codebook in zip(parts, self.codebook.split(self.sizes))]


class LinearHead(nn.Module):
    """A Linear to the number of clusters."""

    def __init__(self, dim: int, sizes: Sequence[int]):
        super().__init__()
        self.sizes = list(sizes)
        self.projection = nn.Linear(dim, sum(sizes))

    def forward(self, x: Tensor) -> List[Tensor]:
        """(F, dim) -> for each label set (F, clusters) logits, not divided by a temperature."""
        return list(self.projection(x).split(self.sizes, -1))


def cluster_head(kind: str, dim: int, embed_dim: int, sizes: Sequence[int]) -> nn.Module:
    """kind: `codebook` or `linear`; embed_dim: of the codebook's embeddings, of no use to `linear`."""
    return LinearHead(dim, sizes) if kind == "linear" else CodebookHead(dim, embed_dim, sizes)
