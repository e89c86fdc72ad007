"""Speaks with eSpeak NG, the same for the same words: the process behind manifests/synthetic.py.

    python -I -S manifests/espeak.py LIBRARY DATA

eSpeak's phases and jitter go on from one utterance to the next, even over a restart of the library: only a fork of a
process that has never spoken says the same thing twice. This one is that process; it is small and has one thread, so
that a fork is cheap and safe. It therefore imports nothing but the standard library.

It writes its sample rate in Hz, then for each line of its input, `[voice, rate, pitch, range, gap, text]` in JSON, the
number of bytes and as many bytes of 16-bit mono samples; numbers are 4 bytes, little-endian, signed, and -1 says that
eSpeak refused.
"""

import ctypes
import json
import os
import struct
import sys
from typing import Any, BinaryIO, List

RETRIEVAL, CHARACTERS, UTF8 = 2, 1, 1
RATE, VOLUME, PITCH, RANGE, WORD_GAP = 1, 2, 3, 4, 7
NUMBER = struct.Struct("<i")
REFUSED = -1


def say(library: Any, voice: str, rate: int, pitch: int, pitch_range: int, gap: int, text: str) -> bytes:
    """16-bit mono samples; RuntimeError if eSpeak refuses. Once a process, or it sounds another way."""
    chunks: List[bytes] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    def keep(samples, count, _events):
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    library.espeak_SetSynthCallback(keep)
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # of the breath of some voices, which the clock has seeded
    failed = library.espeak_SetVoiceByName(voice.encode())
    for name, value in ((RATE, rate), (VOLUME, 100), (PITCH, pitch), (RANGE, pitch_range), (WORD_GAP, gap)):
        failed |= library.espeak_SetParameter(name, value, 0)
    content = text.encode()
    size = ctypes.c_size_t(len(content) + 1)
    failed |= library.espeak_Synth(content, size, 0, CHARACTERS, 0, UTF8, None, None)
    if failed or not chunks:
        raise RuntimeError(f"eSpeak refused {text!r} as {voice!r}")
    return b"".join(chunks)


def say_in_fork(library: Any, request: List[Any], out: BinaryIO) -> None:
    """Writes the answer to one request."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            samples = say(library, *request)
            out.write(NUMBER.pack(len(samples)) + samples)
            out.flush()
            status = 0
        except RuntimeError as error:
            print(error, file=sys.stderr, flush=True)
        finally:
            os._exit(status)  # no clean-up of the parent's: this is a copy
    if os.waitpid(child, 0)[1] != 0:
        out.write(NUMBER.pack(REFUSED))
        out.flush()


def serve(library_path: str, data: str) -> None:
    library = ctypes.CDLL(library_path)
    out = sys.stdout.buffer
    out.write(NUMBER.pack(library.espeak_Initialize(RETRIEVAL, 0, os.fsencode(data), 0)))
    out.flush()
    for line in sys.stdin.buffer:
        say_in_fork(library, json.loads(line), out)


if __name__ == "__main__":
    serve(*sys.argv[1:])
