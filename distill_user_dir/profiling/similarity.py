"""Linear CKA: how much of one layer's features another layer has too (Kornblith et al., 2019, arXiv 1905.00414)."""

from typing import List, Sequence

import torch
from torch import Tensor


class Similarity:
    """Of all layers of one model with all of another, over frames that come batch by batch.

    For centred features X (F, D) and Y (F, E) of F frames it is |X'Y|^2 / (|X'X| |Y'Y|), in Frobenius norms: 1 for
    features that are the same but for a rotation and a scale. What is kept does not grow with F.
    """

    def __init__(self) -> None:
        self.frames = 0

    def add(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
        """Layers of both, (F, D) and (F, E) each."""
        x, y = (torch.cat(list(layers), -1).double() for layers in (ours, theirs))
        if not self.frames:
            self.sizes = [[layer.size(-1) for layer in layers] for layers in (ours, theirs)]
            self.means = [x.mean(0), y.mean(0)]  # about: what is summed stays small
            self.sums = [torch.zeros_like(mean) for mean in self.means]
            self.between = x.new_zeros(x.size(1), y.size(1))
            self.within = [[x.new_zeros(size, size) for size in sizes] for sizes in self.sizes]
        x, y = x - self.means[0], y - self.means[1]
        self.frames += x.size(0)
        self.between += x.t() @ y
        for one, sums, sizes, within in zip((x, y), self.sums, self.sizes, self.within):
            sums += one.sum(0)
            for total, layer in zip(within, one.split(sizes, -1)):
                total += layer.t() @ layer

    def result(self) -> List[List[float]]:
        """A row for each layer of the first model, in it a number from 0 to 1 for each of the second."""
        sums = [one.split(sizes) for one, sizes in zip(self.sums, self.sizes)]
        norms = [
            [centred(total, one, one, self.frames).norm() for total, one in zip(within, parts)]
            for within, parts in zip(self.within, sums)
        ]
        rows = []
        for i, strip in enumerate(self.between.split(self.sizes[0], 0)):
            pairs = zip(strip.split(self.sizes[1], 1), sums[1])
            cells = [centred(cell, sums[0][i], one, self.frames) for cell, one in pairs]
            rows.append([float(cell.norm() ** 2 / norms[0][i] / norm) for cell, norm in zip(cells, norms[1])])
        return rows


def centred(products: Tensor, ours: Tensor, theirs: Tensor, frames: int) -> Tensor:
    """Sums of products (D, E) and sums (D,), (E,) over the frames -> the sums of products of centred features."""
    return products - torch.outer(ours, theirs) / frames
