"""What makes one synthetic voice sound like many, each in its own place: formants, pitch, rooms and noise.

All of it is NumPy and SciPy on (samples,) float64 at 16 kHz, and seeded: the same arguments give the same samples.
"""

from fractions import Fraction

import numpy as np

from distill_user_dir.machine import need

SAMPLE_RATE = 16000
FRAME, SHIFT = 512, 128  # 32 ms, every 8 ms
ENVELOPE = 32  # samples of the real cepstrum (2 ms) that make the envelope: below the period of any voice


def transpose(samples: np.ndarray, factor: float) -> np.ndarray:
    """Pitch, formants and rate times `factor`, by resampling -> (about samples / factor,)."""
    ratio = Fraction(1 / factor).limit_denominator(100)
    return need("scipy.signal", "demo").resample_poly(samples, ratio.numerator, ratio.denominator)


def warp_formants(samples: np.ndarray, factor: float) -> np.ndarray:
    """Formants times `factor`, as of a vocal tract that much shorter; pitch and rate stay -> (samples,).

    The envelope of each frame's spectrum, which is the low end of its cepstrum, is stretched along the frequency axis.
    """
    if factor == 1.0:
        return samples
    signal = need("scipy.signal", "demo")
    _, _, spectrum = signal.stft(samples, nperseg=FRAME, noverlap=FRAME - SHIFT)  # (bins, frames)
    envelope = log_envelope(np.abs(spectrum))
    bins = np.arange(len(spectrum))
    place = np.minimum(bins / factor, bins[-1])  # where in the old envelope a bin's gain is
    below = np.minimum(place.astype(int), bins[-1] - 1)
    part = (place - below)[:, None]
    moved = (1 - part) * envelope[below] + part * envelope[below + 1]
    _, warped = signal.istft(spectrum * np.exp(moved - envelope), nperseg=FRAME, noverlap=FRAME - SHIFT)
    return warped[: len(samples)]


def log_envelope(magnitude: np.ndarray) -> np.ndarray:
    """Magnitudes (bins, frames) -> the log of their smooth envelope, (bins, frames)."""
    floor = 1e-5 * magnitude.max() + 1e-12
    cepstrum = np.fft.irfft(np.log(magnitude + floor), axis=0)
    cepstrum[ENVELOPE : len(cepstrum) - ENVELOPE + 1] = 0.0
    return np.fft.rfft(cepstrum, axis=0).real


def reverberate(samples: np.ndarray, seconds: float, level: float, seed: int) -> np.ndarray:
    """As heard in a small room -> (samples,), the tail cut at the end.

    seconds: until the room's answer, noise that dies away after the direct sound, is 60 dB weaker (RT60).
    level: of that answer's energy to the direct sound's, in dB.
    """
    time = np.arange(1, int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.random.RandomState(seed).standard_normal(len(time))
    answer = noise * 10.0 ** (-3.0 * time / seconds) * (time > 0.002)  # 70 cm of a longer way to the first wall
    answer *= np.sqrt(10.0 ** (level / 10) / np.sum(answer**2))
    room = np.concatenate([[1.0], answer])
    return need("scipy.signal", "demo").fftconvolve(samples, room)[: len(samples)]


def add_noise(samples: np.ndarray, ratio: float, colour: float, seed: int) -> np.ndarray:
    """Noise at a signal-to-noise ratio of `ratio` dB; colour: the pole of its low-pass filter, 0 is white."""
    white = np.random.RandomState(seed).standard_normal(len(samples))
    noise = need("scipy.signal", "demo").lfilter([1.0], [1.0, -colour], white)
    return samples + noise * np.sqrt(np.mean(samples**2) / (10 ** (ratio / 10) * np.mean(noise**2)))
