"""Kaldi's log-mel filter bank features as a torch module."""

import math
from typing import Any, Callable, Dict

import torch
from torch import Tensor, nn

MOST = {"num_mel_bins": 1024, "sample_frequency": 384_000, "frame_length": 1000, "frame_shift": 1000}
MOST_WEIGHTS = 1 << 22
FULL_SCALE = 32768.0  # Kaldi reads 16-bit samples as numbers from -32768 to 32767
FLOOR = torch.finfo(torch.float32).eps  # of the energy in a bin, before the logarithm


def mel(hertz: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(hertz / 700.0)


def mel_weights(bins: int, padded: int, sample_rate: float, low: float, high: float) -> Tensor:
    """(padded // 2 + 1, bins) float64: triangles, equally spaced and half overlapping on the mel scale.

    low and high in Hz, `high` at 0 or less counted from half the sample rate. ValueError where they are outside of
    that, or where a bin would be empty."""
    top = sample_rate / 2
    end = high if high > 0 else top + high
    if not 0 <= low < end <= top:
        raise ValueError(f"low_freq={low:g}, high_freq={high:g}: not within 0 to {top:g} Hz")
    low_mel, high_mel = mel(torch.tensor([low, end], dtype=torch.float64))
    step = (high_mel - low_mel) / (bins + 1)
    left = low_mel + step * torch.arange(bins, dtype=torch.float64)
    at = mel(torch.arange(padded // 2 + 1, dtype=torch.float64) * sample_rate / padded).unsqueeze(1)
    triangles = torch.minimum((at - left) / step, (left + 2 * step - at) / step).clamp(min=0)
    triangles[-1] = 0  # Kaldi leaves the Nyquist frequency out
    if bool((triangles.sum(0) == 0).any()):
        raise ValueError(f"num_mel_bins={bins}: more than {padded} points of the FFT can fill")
    return triangles


def window_of(kind: str, size: int) -> Tensor:
    """(size,) float64."""
    turn = 2 * math.pi * torch.arange(size, dtype=torch.float64) / (size - 1)
    windows = {
        "povey": lambda: (0.5 - 0.5 * torch.cos(turn)) ** 0.85,
        "hanning": lambda: 0.5 - 0.5 * torch.cos(turn),
        "hamming": lambda: 0.54 - 0.46 * torch.cos(turn),
        "rectangular": lambda: torch.ones(size, dtype=torch.float64),
    }
    if kind not in windows:
        raise ValueError(f"window_type={kind}: there are {', '.join(windows)}")
    return windows[kind]()


class Float32Tables(nn.Module):
    """A module whose buffers keep their type when the model around them is told to be half."""

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> "Float32Tables":
        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, *args, **kwargs)


def check_bounds(options: Dict[str, Any]) -> None:
    """ValueError for a number that is not positive, or larger than anybody needs."""
    for name, most in MOST.items():
        if not 0 < options[name] <= most:
            raise ValueError(f"{name}={options[name]:g}: expected a number above 0, and {most} at most")


class KaldiFbank(Float32Tables):
    """Log-mel energies as Kaldi's compute-fbank-feats has them (snip_edges, no energy), in float32 throughout.

    Options have Kaldi's names and defaults, but for 80 bins and no dither. sample_frequency in Hz; frame_length and
    frame_shift in milliseconds; low_freq and high_freq in Hz, 0 or less counted from half the sample_frequency;
    dither: standard deviation of the noise in units of a 16-bit sample, drawn from torch's generator. `options` has all
    but the dither by name.
    """

    def __init__(
        self,
        num_mel_bins: int = 80,
        sample_frequency: float = 16000.0,
        frame_length: float = 25.0,
        frame_shift: float = 10.0,
        window_type: str = "povey",
        preemphasis_coefficient: float = 0.97,
        remove_dc_offset: bool = True,
        low_freq: float = 20.0,
        high_freq: float = 0.0,
        dither: float = 0.0,
    ):
        super().__init__()
        self.options = {
            "num_mel_bins": num_mel_bins,
            "sample_frequency": sample_frequency,
            "frame_length": frame_length,
            "frame_shift": frame_shift,
            "window_type": window_type,
            "preemphasis_coefficient": preemphasis_coefficient,
            "remove_dc_offset": remove_dc_offset,
            "low_freq": low_freq,
            "high_freq": high_freq,
        }
        check_bounds(self.options)
        self.size = int(sample_frequency * frame_length * 0.001)
        self.shift = int(sample_frequency * frame_shift * 0.001)
        if self.size < 2 or self.shift < 1:
            raise ValueError(f"a window of {self.size} samples every {self.shift}: expected 2 or more, and 1 or more")
        self.padded = 1 << (self.size - 1).bit_length()
        if self.padded * num_mel_bins > MOST_WEIGHTS:
            raise ValueError(f"{num_mel_bins} bins of windows of {self.size} samples: more than anybody needs")
        self.preemphasis, self.remove_dc_offset, self.dither = preemphasis_coefficient, remove_dc_offset, dither
        weights = mel_weights(num_mel_bins, self.padded, sample_frequency, low_freq, high_freq)
        self.register_buffer("window", window_of(window_type, self.size).float(), persistent=False)
        self.register_buffer("mel", weights.float(), persistent=False)

    def num_frames(self, samples: Tensor) -> Tensor:
        """(B,) long samples -> (B,) long frames, whole windows only."""
        return ((samples - self.size).div(self.shift, rounding_mode="floor") + 1).clamp(min=0)

    def forward(self, waveforms: Tensor) -> Tensor:
        """(B, N) in [-1, 1] -> (B, T, num_mel_bins) float32. A frame sees its own window and no other sample, so that
        padding at the end changes no frame that `num_frames` counts. ValueError below one window."""
        if waveforms.size(1) < self.size:
            raise ValueError(f"{waveforms.size(1)} samples are less than a window of {self.size}")
        with torch.autocast(waveforms.device.type, enabled=False):
            frames = (waveforms.float() * FULL_SCALE).unfold(1, self.size, self.shift)
            if self.dither > 0:
                frames = frames + self.dither * torch.randn_like(frames)
            if self.remove_dc_offset:
                frames = frames - frames.mean(-1, keepdim=True)
            if self.preemphasis > 0:
                before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
                frames = frames - self.preemphasis * before
            return (self.power(frames) @ self.mel).clamp(min=FLOOR).log()

    def power(self, frames: Tensor) -> Tensor:
        """(B, T, size) -> (B, T, padded // 2 + 1), the power spectrum behind the window."""
        spectrum = torch.fft.rfft(frames * self.window, self.padded)
        return torch.view_as_real(spectrum).square().sum(-1)
