"""A long convolution in the frequency domain, block by block: for inference, and made of matrix products only."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def dft(size: int) -> Tensor:
    """(size, 2 * (size // 2 + 1)) float64: a real signal times this is its spectrum, real parts before imaginary. It is
    a mean, not a sum: no number is bigger than the signal's, for which half precision has room."""
    turns = torch.arange(size, dtype=torch.float64).outer(torch.arange(size // 2 + 1, dtype=torch.float64)) / size
    return torch.cat([torch.cos(2 * math.pi * turns), -torch.sin(2 * math.pi * turns)], 1) / size


def inverse_dft(size: int) -> Tensor:
    """(2 * (size // 2 + 1), size) float64: the way back."""
    share = torch.full((size // 2 + 1,), 2.0, dtype=torch.float64)
    share[0] = 1.0
    if size % 2 == 0:
        share[-1] = 1.0
    return dft(size).t() * torch.cat([share, share]).unsqueeze(1) * size


def spectrum(kernel: Tensor, groups: int, table: Tensor) -> Tensor:
    """(out, in, taps), `dft` of twice the taps -> (frequencies * groups, in, 2 * out), real before imaginary."""
    taps = kernel.size(-1)
    # a Conv1d correlates: its spectrum is that of the kernel turned round, so that block[taps - 1:] is valid
    turned = F.pad(kernel.flip(-1), (0, taps)).unflatten(0, (groups, -1))
    real, imaginary = (turned @ table * (2 * taps)).chunk(2, -1)  # (groups, out, in, frequencies)
    return torch.cat([real, imaginary], 1).permute(3, 0, 2, 1).flatten(0, 1)


class BlockConvolution(nn.Module):
    """What a `Conv1d` of stride 1 gives, by overlap-save: each block of twice the kernel's length, half of which it
    shares with the next, is transformed, multiplied by the kernel's spectrum, channels of a group among themselves, and
    transformed back.

    HuBERT's positional convolution has 128 taps: a quarter of the multiplications are left.
    """

    def __init__(self, conv: nn.Conv1d):
        super().__init__()
        self.taps, self.groups, self.padding = conv.kernel_size[0], conv.groups, conv.padding[0]
        self.block = 2 * self.taps
        self.keep(conv.weight.detach())
        self.bias = nn.Parameter(conv.bias.detach(), requires_grad=False)
        tables = {"forth": dft(self.block).t(), "back": inverse_dft(self.block)[:, self.taps - 1 : -1].t()}
        for name, table in tables.items():
            self.register_buffer(name, table.to(conv.weight), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T + 2 * padding - taps + 1). Time comes before channels inside, as around it."""
        batch, size = x.size(0), x.size(2) + 2 * self.padding - self.taps + 1
        blocks = (size + self.taps - 1) // self.taps
        after = (blocks + 1) * self.taps - self.padding - x.size(2)
        halves = F.pad(x.transpose(1, 2), (0, 0, self.padding, after)).unflatten(1, (-1, self.taps))
        x = torch.cat([halves[:, :-1], halves[:, 1:]], 2).flatten(0, 1)  # (B * blocks, block, C)
        x = self.forth.expand(x.size(0), -1, -1).bmm(x)  # (B * blocks, 2 * frequencies, C)
        x = x.unflatten(2, (self.groups, -1)).unflatten(1, (2, -1)).permute(2, 3, 1, 0, 4).flatten(2, 3).flatten(0, 1)
        # of the signal, real parts and imaginary; each times the kernel's real ones beside its imaginary ones
        x = torch.bmm(x, self.spectrum()).unflatten(2, (2, -1)).unflatten(1, (2, -1)).unflatten(0, (-1, self.groups))
        real = x[:, :, 0, :, 0] - x[:, :, 1, :, 1]  # (frequencies, groups, B * blocks, out)
        imaginary = x[:, :, 0, :, 1] + x[:, :, 1, :, 0]
        x = torch.cat([real, imaginary]).permute(2, 0, 1, 3).flatten(2)  # (B * blocks, 2 * frequencies, C)
        x = self.back.expand(x.size(0), -1, -1).bmm(x)  # (B * blocks, taps, C)
        return (self.cut(x.unflatten(0, (batch, -1)).flatten(1, 2), size) + self.bias).transpose(1, 2)

    def keep(self, kernel: Tensor) -> None:
        """(out, in, taps), for `spectrum`."""
        weight = spectrum(kernel.double(), self.groups, dft(self.block).to(kernel.device))
        self.weight = nn.Parameter(weight.to(kernel.dtype), requires_grad=False)

    def cut(self, x: Tensor, size: int) -> Tensor:
        """(B, T, C) -> (B, size, C)."""
        return x[:, :size]

    def spectrum(self) -> Tensor:
        """(frequencies * groups, in, 2 * out) of the kernel."""
        return self.weight
