"""eSpeak NG, run in a process of its own (espeak.py), and its voices."""

import json
import os
import struct
import subprocess
import sys
import threading

import numpy as np

from distill_user_dir.machine import need

ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc")


VARIANTS = tuple(f"m{i}" for i in range(1, 9)) + tuple(f"f{i}" for i in range(1, 6))


class Espeak:
    """eSpeak NG in a process of its own, 16-bit mono at `sample_rate` Hz; a context manager. See espeak.py."""

    _NUMBER = struct.Struct("<i")

    def __init__(self) -> None:
        espeakng_loader = need("espeakng_loader", "demo")
        data = espeakng_loader.get_data_path()
        missing = [name for name in VARIANTS if not os.path.isfile(os.path.join(data, "voices", "!v", name))]
        if missing:  # eSpeak would take the plain voice without a word
            raise RuntimeError(f"{data}: no voices {missing}; install espeakng-loader 0.2.4")
        server = os.path.join(os.path.dirname(os.path.abspath(__file__)), "espeak.py")
        command = [sys.executable, "-I", "-S", server, espeakng_loader.get_library_path(), data]
        # a session of its own: an interrupt is this process's affair, and ends the other by closing its input
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.turn = threading.Lock()
        self.sample_rate = self._number()
        if self.sample_rate <= 0:
            raise RuntimeError(f"{data}: eSpeak NG does not start (code {self.sample_rate})")

    def __enter__(self) -> "Espeak":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def _number(self) -> int:
        answer = self.process.stdout.read(self._NUMBER.size)
        if len(answer) < self._NUMBER.size:
            raise RuntimeError(f"eSpeak NG's process ended (code {self.process.wait()})")
        return self._NUMBER.unpack(answer)[0]

    def speak(self, text: str, voice: str, rate: int, pitch: int, pitch_range: int, gap: int) -> np.ndarray:
        """-> (samples,) int16, the same for the same arguments. `gap` between words is in units of 10 ms."""
        request = [voice, rate, pitch, pitch_range, gap, text]
        with self.turn:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            size = self._number()
            if size < 0:
                raise RuntimeError(f"eSpeak NG could not say {text!r} as {voice!r}")
            return np.frombuffer(self.process.stdout.read(size), dtype="<i2")
