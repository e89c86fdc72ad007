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


class BlockConvolution(nn.Module):
    """What a `Conv1d` of stride 1 gives, by overlap-save: each block of twice the kernel's length is transformed,
    multiplied by the kernel's spectrum, channels of a group among themselves, and transformed back.

    HuBERT's positional convolution has 128 taps: a quarter of the multiplications are left.
    """

    def __init__(self, conv: nn.Conv1d):
        super().__init__()
        taps, self.groups = conv.kernel_size[0], conv.groups
        self.padding, self.taps = conv.padding[0], taps
        self.block = 2 * taps
        self.hop = self.block - taps + 1
        frequencies = self.block // 2 + 1
        # a Conv1d correlates: its spectrum is that of the kernel turned round, so that block[taps - 1:] is valid
        kernel = conv.weight.detach().double().flip(-1).unflatten(0, (self.groups, -1))
        spectrum = F.pad(kernel, (0, self.block - taps)) @ dft(self.block).to(kernel.device) * self.block
        real, imaginary = spectrum.split(frequencies, -1)  # (groups, out, in, frequencies)
        weight = torch.cat([real, imaginary], 1).permute(3, 0, 2, 1)  # (frequencies, groups, in, 2 * out)
        self.weight = nn.Parameter(weight.flatten(0, 1).to(conv.weight.dtype), requires_grad=False)
        self.bias = nn.Parameter(conv.bias.detach(), requires_grad=False)
        tables = {"forth": dft(self.block).t(), "back": inverse_dft(self.block)[:, taps - 1 :].t()}
        for name, table in tables.items():
            self.register_buffer(name, table.to(conv.weight), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T + 2 * padding - taps + 1). Time comes before channels inside, as around it."""
        batch, channels, size = x.shape
        size = size + 2 * self.padding - self.taps + 1
        blocks = (size + self.hop - 1) // self.hop
        after = blocks * self.hop + self.taps - 1 - self.padding - x.size(2)
        x = F.pad(x.transpose(1, 2), (0, 0, self.padding, after)).unfold(1, self.block, self.hop).transpose(2, 3)
        x = self.forth @ x  # (B, blocks, 2 * frequencies, C)
        x = x.view(batch * blocks, 2, -1, self.groups, channels // self.groups)
        x = x.permute(2, 3, 1, 0, 4).reshape(self.weight.size(0), 2 * batch * blocks, -1)
        real, imaginary = torch.bmm(x, self.weight).chunk(2, 1)  # of the signal; each times (real, imaginary) weights
        half = real.size(2) // 2
        product = torch.stack([real[..., :half] - imaginary[..., half:], real[..., half:] + imaginary[..., :half]])
        product = product.view(2, -1, self.groups, batch * blocks, half).permute(3, 0, 1, 2, 4)
        x = self.back @ product.reshape(batch, blocks, -1, self.groups * half)  # (B, blocks, hop, C)
        return (x.flatten(1, 2)[:, :size] + self.bias).transpose(1, 2)
