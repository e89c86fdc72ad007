"""Writes down what is said in recordings.

    python transcribe.py speech.flac recordings/ 'more/*.wav'      # lines of FILE and WORDS; one file: its words
    python transcribe.py talk.mp3 --output srt > talk.srt
    arecord -f S16_LE -r 16000 | python transcribe.py -

Any format, sample rate and number of channels that libsndfile reads, any length: long recordings are cut where nobody
speaks. A file that cannot be read is named at the end, the others are done, and the exit status is 1.
"""

import argparse
import glob
import gzip
import json
import os
import re
import shutil
import struct
import sys
import tempfile
import time
import zlib
from typing import Any, BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Sequence, TextIO, Tuple

import numpy as np
import soundfile

UNKNOWN = 1 << 50  # samples of a header that tells no length
FORMAT = "distill_user_dir 1"  # of the folder
BLANK = 0
WORD_END, WORD_START = "|", "\u2581"  # of letters, of sentencepieces
PAUSE = 0.3  # seconds without a letter are a place to cut
OVERLAP = 4.0  # seconds that two pieces share where there is no pause
LONGEST = 15.0  # seconds of a piece: students are distilled on no longer ones, and attention's time grows by the square
BATCH_SECONDS = 60.0  # of audio at a time, the longest of a batch times their number
LIKELY = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".aiff", ".aif", ".au", ".sph", ".w64", ".caf", ".mp2")
CAPTION_SECONDS, CAPTION_CHARACTERS, CAPTION_GAP = 6.0, 84, 0.8


class Word(NamedTuple):
    """start, end in seconds; confidence: the mean probability of its units, from 0 to 1."""

    word: str
    start: float
    end: float
    confidence: float


class Transcript(NamedTuple):
    name: str
    words: List[Word]
    seconds: float

    @property
    def text(self) -> str:
        return " ".join(word.word for word in self.words)

    @property
    def confidence(self) -> float:
        return float(np.mean([word.confidence for word in self.words])) if self.words else 1.0


class OnnxModel:
    """An exported folder: model.onnx, whose metadata say what it takes and what its outputs are called.

    frame_shift, window: samples from one frame to the next, and of the shortest audio that has a frame.
    """

    def __init__(self, folder: str, threads: int = 0):
        path = os.path.join(folder, "model.onnx")
        if not os.path.isfile(path):
            raise ValueError(f"{folder}: no model.onnx in it; export the student again")
        try:
            import onnxruntime
        except ImportError:
            raise ValueError(f"{folder}: pip install onnxruntime, which runs it") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's are of many kinds
            raise ValueError(f"{path}: no model that onnxruntime reads ({str(error)[:200]})") from None
        known = self.session.get_modelmeta().custom_metadata_map
        if known.get("format") != FORMAT:
            raise ValueError(f"{path}: made by another version, or by something else; export the student again")
        self.symbols: List[str] = json.loads(known["symbols"])
        self.units, self.sample_rate = known["units"], int(known["sample_rate"])
        self.frame_shift, self.window, self.shortest = (int(known[k]) for k in ("frame_shift", "window", "shortest"))

    def outputs(self, audio: Sequence[np.ndarray]) -> List[np.ndarray]:
        """(samples,) float32 each -> (frames, units) each."""
        batch, lengths = padded(audio, self.shortest)
        names = [put.name for put in self.session.get_inputs()]
        found, frames = self.session.run(None, dict(zip(names, (batch, lengths))))
        return [one[:count] for one, count in zip(found, frames)]


def padded(audio: Sequence[np.ndarray], shortest: int) -> Tuple[np.ndarray, np.ndarray]:
    """(samples,) each -> (B, N) float32 with zeros behind, (B,) int64 samples."""
    lengths = np.array([len(one) for one in audio], dtype=np.int64)
    batch = np.zeros((len(audio), max(int(lengths.max()), shortest)), dtype=np.float32)
    for row, one in zip(batch, audio):
        row[: len(one)] = one
    return batch, lengths


# Audio


class Recording:
    """A file, or standard input, as blocks of mono float32 at a rate; a context manager. ValueError for no audio."""

    def __init__(self, name: str, rate: int):
        self.name, self.rate, self.spool = name, rate, None
        if name == "-":
            self.spool = spooled(sys.stdin.buffer)
        elif not os.path.isfile(name):
            raise ValueError(f"{name}: no such file")
        try:
            self.file = soundfile.SoundFile(self.spool or name)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"{name}: no audio that libsndfile reads ({error})") from None
        if self.file.frames >= UNKNOWN:
            raise ValueError(f"{name}: its header does not tell its length; write it anew (sox IN OUT)")
        self.seconds = self.file.frames / self.file.samplerate
        self.samples = round(self.seconds * rate)  # about, where it is resampled

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if self.spool is not None:
            self.spool.close()

    def blocks(self) -> Iterator[np.ndarray]:
        """About ten seconds at a time."""
        resampler = None
        if self.file.samplerate != self.rate:
            try:
                import soxr
            except ImportError:
                raise ValueError(f"{self.name}: {self.file.samplerate} Hz; pip install soxr, which resamples") from None
            resampler = soxr.ResampleStream(self.file.samplerate, self.rate, 1, dtype="float32")
        left, first, heard = self.file.frames, None, False
        while True:
            try:
                block = self.file.read(10 * self.file.samplerate, dtype="float32", always_2d=True).mean(1)
            except RuntimeError as error:
                raise ValueError(f"{self.name}: damaged ({error})") from None
            left -= len(block)
            last = len(block) < 10 * self.file.samplerate
            if last and left > 0:
                raise ValueError(f"{self.name}: cut, {left} of {self.file.frames} samples are missing")
            if not np.isfinite(block).all():
                raise ValueError(f"{self.name}: it has samples that are no finite numbers")
            first = block[0] if first is None and len(block) else first
            heard = heard or bool(np.any(block != first))
            if last and not heard and self.file.frames > 1:
                raise ValueError(f"{self.name}: silent, all of its samples are the same; look at how it was recorded")
            yield block if resampler is None else resampler.resample_chunk(block, last=last)
            if last:
                return


def spooled(stream: BinaryIO) -> BinaryIO:
    """What a pipe brings, in a temporary file, with the length in its WAV header put right: a program that writes into
    a pipe cannot know it."""
    file = tempfile.TemporaryFile()
    try:
        shutil.copyfileobj(stream, file)
    except KeyboardInterrupt:  # Ctrl-C ends the program that records, too; another one ends this
        shutil.copyfileobj(stream, file)
    size = file.tell()
    file.seek(0)
    head = file.read(4096)
    at = head.find(b"data")
    if head[:4] == b"RIFF" and at > 0:
        stated = struct.unpack_from("<I", head, at + 4)[0]
        there = size - at - 8
        if stated == 0 or stated > there and stated >= 0x7FFFF000:  # sox, ffmpeg and arecord write one of these
            file.seek(at + 4)
            file.write(struct.pack("<I", min(there, 0xFFFFFFFF)))
            file.seek(4)
            file.write(struct.pack("<I", min(size - 8, 0xFFFFFFFF)))
    file.seek(0)
    return file


# Words


def words_of(
    log_probs: np.ndarray, symbols: Sequence[str], units: str, frame: float, path: Optional[np.ndarray] = None
) -> List[Word]:
    """(frames, units) -> the words of a path, by default the best one; frame: seconds of one."""
    path = log_probs.argmax(1) if path is None else path
    changes = np.flatnonzero(np.diff(path, prepend=-1))
    runs = [(int(path[a]), int(a), int(b)) for a, b in zip(changes, [*changes[1:], len(path)]) if path[a] != BLANK]
    words: List[Tuple[List[str], int, int, List[float]]] = []
    inside = False
    for unit, start, end in runs:
        symbol = symbols[unit]
        if units == "letter" and symbol in (WORD_END, ""):
            inside = False
            continue
        begins = not inside or (units == "sentencepiece" and symbol.startswith(WORD_START))
        if begins:
            words.append(([], start, end, []))
        text, first, _, probabilities = words[-1]
        probabilities.append(float(np.exp(log_probs[start:end, unit].max())))
        words[-1] = (text + [symbol.replace(WORD_START, "")], first, end, probabilities)
        inside = True
    found = [("".join(text), start, end, chances) for text, start, end, chances in words]
    return [Word(text, a * frame, b * frame, float(np.mean(chances))) for text, a, b, chances in found if text]


def said(model: Any, log_probs: np.ndarray) -> List[Word]:
    """(frames, units) -> words, by the model's `search` where it was given one."""
    search, frame = getattr(model, "search", None), model.frame_shift / model.sample_rate
    if search is None:
        return words_of(log_probs, model.symbols, model.units, frame)
    path, names = search.path(log_probs)
    words = words_of(log_probs, model.symbols, model.units, frame, path)
    if len(names) != len(words):  # the last one is not whole
        return words
    return [word._replace(word=name) for word, name in zip(words, names)]


class Search:
    """A beam search for words of a lexicon, weighed by a KenLM language model. flashlight does it.

    lm: ARPA or binary; lexicon: lines of WORD UNIT UNIT ..., else the words of an ARPA in letters; weight: of the
    language model; score: added for each word; beam: hypotheses that are kept.
    """

    def __init__(self, model: Any, lm: str, lexicon: Optional[str], weight: float, score: float, beam: int):
        try:
            from flashlight.lib.text import decoder, dictionary
            from flashlight.lib.text.decoder.kenlm import KenLM
        except ImportError:
            raise ValueError("--lm: pip install flashlight-text kenlm, which search") from None
        for path in (lm, *([lexicon] if lexicon else [])):
            if not os.path.isfile(path):
                raise ValueError(f"{path}: no such file")
        index = {symbol: i for i, symbol in enumerate(model.symbols) if symbol}
        spellings = spelled(lexicon, index) if lexicon else spelled_by_letters(lm, index, model.units)
        self.words = words = dictionary.create_word_dict({**spellings, "<unk>": []})
        try:
            self.lm = KenLM(lm, words)
        except RuntimeError as error:
            raise ValueError(f"{lm}: no language model that KenLM reads ({error})") from None
        silence = index.get(WORD_END, -1)
        self.trie = decoder.Trie(len(model.symbols), max(silence, BLANK))
        start = self.lm.start(False)
        for word, ways in spellings.items():
            number = words.get_index(word)
            _, likely = self.lm.score(start, number)
            for units in ways:
                self.trie.insert([index[unit] for unit in units], number, likely)
        self.trie.smear(decoder.SmearingMode.MAX)
        options = decoder.LexiconDecoderOptions(
            beam, len(model.symbols), 50.0, weight, score, float("-inf"), 0.0, False, decoder.CriterionType.CTC
        )
        unknown = words.get_index("<unk>")
        self.decoder = decoder.LexiconDecoder(
            options, self.trie, self.lm, max(silence, BLANK), BLANK, unknown, [], False
        )

    def path(self, log_probs: np.ndarray) -> Tuple[np.ndarray, List[str]]:
        """(frames, units) -> (frames,) units, and the words that these spell."""
        scores = np.ascontiguousarray(log_probs, dtype=np.float32)
        found = self.decoder.decode(scores.ctypes.data, *scores.shape)[0]
        return np.array(found.tokens[1:-1]), [self.words.get_entry(word) for word in found.words if word >= 0]


def spelled(lexicon: str, index: Dict[str, int]) -> Dict[str, List[List[str]]]:
    """{word: its spellings}; ValueError for a unit that the model does not have."""
    found: Dict[str, List[List[str]]] = {}
    with open(lexicon, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            word, *units = line.split() or [""]
            foreign = sorted(set(units) - set(index))
            if foreign or word and not units:
                what = f"a spelling with {foreign[0]!r}, which the model has not" if foreign else "a word unspelled"
                raise ValueError(f"{lexicon}:{number}: {what}")
            if WORD_END in index and units[-1:] != [WORD_END]:
                units = [*units, WORD_END]
            if word:
                found.setdefault(word, []).append(units)
    if not found:
        raise ValueError(f"{lexicon}: no words in it")
    return found


def spelled_by_letters(lm: str, index: Dict[str, int], units: str) -> Dict[str, List[List[str]]]:
    """{word of an ARPA file: its letters and the word's end}, but for words with letters that the model has not."""
    if units != "letter":
        raise ValueError(f"--lm: for units of {units} give --lexicon")
    found: Dict[str, List[List[str]]] = {}
    opened = gzip.open if lm.endswith(".gz") else open
    try:
        with opened(lm, "rt", encoding="utf-8") as lines:
            inside = False
            for line in lines:
                parts = line.split()
                if line.startswith("\\"):
                    if inside:
                        break
                    inside = line.startswith("\\1-grams:")
                elif inside and len(parts) > 1 and set(parts[1]) <= set(index):
                    found[parts[1]] = [[*parts[1], WORD_END]]
    except (UnicodeDecodeError, EOFError, zlib.error):
        raise ValueError(f"{lm}: no ARPA file, which tells its words; give --lexicon") from None
    if not found:
        raise ValueError(f"{lm}: no words in the model's letters in it; give --lexicon")
    return found


def pause(log_probs: np.ndarray, symbols: Sequence[str], units: str, shortest: int) -> Optional[int]:
    """The middle frame of the last pause behind a word, in the second half of the frames; None where there is none."""
    path = log_probs.argmax(1)
    ends = [i for i, symbol in enumerate(symbols) if i == BLANK or (units == "letter" and symbol == WORD_END)]
    silent = np.isin(path, ends).astype(np.int8)
    edges = np.flatnonzero(np.diff(silent, prepend=0, append=0)).reshape(-1, 2)
    for start, end in edges[::-1]:
        separated = units != "letter" or start == 0 or symbols_in(path[start:end], symbols)
        middle = (start + end) // 2
        if end - start >= shortest and separated and middle >= len(path) // 2:
            return int(middle)
    return None


def symbols_in(path: np.ndarray, symbols: Sequence[str]) -> bool:
    """Whether a word ends in these frames of letters."""
    return any(symbols[unit] == WORD_END for unit in np.unique(path))


# Recordings of any length


def long_words(model: Any, recording: Recording, longest: float) -> Iterator[List[Word]]:
    """The words of a recording in pieces of at most `longest` seconds, which end in a pause, or else overlap: of the
    words in the overlap each piece gives those that are nearer to its middle."""
    rate, frame = model.sample_rate, model.frame_shift / model.sample_rate
    most, shared = (int(seconds / frame) * model.frame_shift for seconds in (longest, min(OVERLAP, longest / 3)))
    blocks, buffer, offset, known = recording.blocks(), np.zeros(0, np.float32), 0, -1.0
    last = False
    while not last:
        while len(buffer) <= most and not last:
            block = next(blocks, None)
            last = block is None
            buffer = buffer if last else np.concatenate([buffer, block])
        last = last and len(buffer) <= most
        if len(buffer) < model.window:
            return
        log_probs = model.outputs([buffer[:most]])[0]
        words = [
            word._replace(start=word.start + offset / rate, end=word.end + offset / rate)
            for word in said(model, log_probs)
        ]
        words = [word for word in words if word.start + word.end > 2 * known]
        if not last:
            cut = pause(log_probs, model.symbols, model.units, int(PAUSE / frame))
            step = most - shared if cut is None else cut * model.frame_shift
            until = (offset + (most - shared / 2 if cut is None else step)) / rate
            rest = [word for word in words if word.start + word.end > 2 * until]
            words = words[: len(words) - len(rest)]
            # between the last word of this piece and the next one's first
            known = -1.0 if cut is not None else (words[-1].end + rest[0].start) / 2 if words and rest else until
            buffer, offset = buffer[step:], offset + step
        yield words


def transcripts(model: Any, names: Sequence[str], longest: float = LONGEST) -> Iterator[Tuple[str, Any]]:
    """(name, its Transcript, or a ValueError that says what is wrong with it), in the order of the names; short ones
    are computed in batches of about the same length."""
    for first in range(0, len(names), 256):
        found: Dict[int, Any] = {}
        short: List[Tuple[int, int]] = []
        for place, name in enumerate(names[first : first + 256]):
            try:
                with Recording(name, model.sample_rate) as recording:
                    if name != "-" and 0 < recording.samples <= longest * model.sample_rate:
                        short.append((recording.samples, place))
                        continue
                    pieces = list(long_words(model, recording, longest))
                    if not pieces:
                        raise ValueError(f"{name}: too short for one frame of {model.window} samples")
                    words = [word for piece in pieces for word in piece]
                    found[place] = Transcript(name, words, recording.seconds)
            except ValueError as error:
                found[place] = error
        for batch in batches(sorted(short), BATCH_SECONDS * model.sample_rate):
            found.update(of_batch(model, {place: names[first + place] for place in batch}))
        for place in range(len(names[first : first + 256])):
            yield names[first + place], found[place]


def batches(short: Sequence[Tuple[int, int]], most: float) -> Iterator[List[int]]:
    """(samples, place), the shortest first -> places of at most so many samples with padding, at least one."""
    batch: List[int] = []
    for samples, place in short:
        if batch and samples * (len(batch) + 1) > most:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def of_batch(model: Any, names: Dict[int, str]) -> Dict[int, Any]:
    """{place: name} of short recordings -> {place: Transcript or ValueError}."""
    found: Dict[int, Any] = {}
    audio: Dict[int, np.ndarray] = {}
    for place, name in names.items():
        try:
            with Recording(name, model.sample_rate) as recording:
                audio[place] = np.concatenate(list(recording.blocks()))
            if len(audio[place]) < model.window:
                raise ValueError(f"{name}: {len(audio.pop(place))} samples, fewer than a frame's {model.window}")
        except ValueError as error:
            found[place] = error
    scored = model.outputs(list(audio.values())) if audio else []
    for (place, one), log_probs in zip(audio.items(), scored):
        words = said(model, log_probs)
        found[place] = Transcript(names[place], words, len(one) / model.sample_rate)
    return found


# Output


def captions(words: Sequence[Word]) -> List[List[Word]]:
    """Words that are shown together: they end at a gap, and before they are too long to read."""
    shown: List[List[Word]] = []
    for word in words:
        now = shown[-1] if shown else []
        length = sum(len(each.word) + 1 for each in now) + len(word.word)
        apart = now and word.start - now[-1].end > CAPTION_GAP
        if not now or apart or length > CAPTION_CHARACTERS or word.end - now[0].start > CAPTION_SECONDS:
            shown.append([])
        shown[-1].append(word)
    return shown


def clock(seconds: float, point: str) -> str:
    """00:01:02.345"""
    milliseconds = round(seconds * 1000)
    hours, minutes = milliseconds // 3600000, milliseconds // 60000 % 60
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000 % 60:02d}{point}{milliseconds % 1000:03d}"


def as_text(one: Transcript) -> str:
    return f"{one.text}\n"


def as_json(one: Transcript) -> str:
    words = [
        {"word": w.word, "start": round(w.start, 3), "end": round(w.end, 3), "confidence": round(w.confidence, 4)}
        for w in one.words
    ]
    told = {"file": one.name, "seconds": round(one.seconds, 3), "text": one.text}
    return json.dumps({**told, "confidence": round(one.confidence, 4), "words": words}, ensure_ascii=False) + "\n"


def as_srt(one: Transcript) -> str:
    return "".join(
        f"{number}\n{clock(shown[0].start, ',')} --> {clock(shown[-1].end, ',')}\n{' '.join(w.word for w in shown)}\n\n"
        for number, shown in enumerate(captions(one.words), 1)
    )


def as_vtt(one: Transcript) -> str:
    shown = (
        f"{clock(shown[0].start, '.')} --> {clock(shown[-1].end, '.')}\n{' '.join(w.word for w in shown)}\n\n"
        for shown in captions(one.words)
    )
    return "WEBVTT\n\n" + "".join(shown)


def as_ctm(one: Transcript) -> str:
    """NIST's: name, channel, start, duration, word, confidence."""
    name = re.sub(r"\s", "_", os.path.splitext(os.path.basename(one.name))[0])
    return "".join(f"{name} 1 {w.start:.2f} {w.end - w.start:.2f} {w.word} {w.confidence:.4f}\n" for w in one.words)


FORMATS = {"text": as_text, "json": as_json, "srt": as_srt, "vtt": as_vtt, "ctm": as_ctm}
ONE_FILE = ("srt", "vtt")  # hold one recording each


# The command


def files_in(given: Sequence[str]) -> Tuple[List[str], List[str]]:
    """Files, folders (all audio below) and patterns -> names, sorted within each, and a line for each without any."""
    found: List[str] = []
    wrong: List[str] = []
    for name in given:
        if os.path.isdir(name):
            below = [os.path.join(folder, file) for folder, _, files in os.walk(name) for file in files]
            names = sorted(file for file in below if file.lower().endswith(LIKELY))
            if not names:
                wrong.append(f"{name}: no audio in this folder")
        elif name != "-" and not os.path.exists(name) and glob.has_magic(name):
            names = sorted(glob.glob(name, recursive=True))
            if not names:
                wrong.append(f"{name}: no file of such a name")
        else:
            names = [name]
        found += names
    return found, wrong


def output_name(name: str, output: str) -> str:
    """Of a recording, in the folder --dest; also what a CTM calls it."""
    ending = "txt" if output == "text" else output
    stem = os.path.splitext(os.path.basename(name))[0] if name != "-" else "stdin"
    return f"{stem}.{ending}"


def check_names(names: Sequence[str], output: str) -> None:
    """ValueError where two recordings would be written to one file."""
    taken: Dict[str, str] = {}
    for name in names:
        other = taken.setdefault(output_name(name, output), name)
        if other != name:
            raise ValueError(f"{name}: of the same name as {other}; give them one by one, or rename one")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("audio", nargs="+", metavar="AUDIO", help="files, folders, patterns, or - for standard input")
    parser.add_argument("--output", choices=list(FORMATS), default="text", help="(text); json has a line a file")
    parser.add_argument("--dest", metavar="FOLDER", help="write a file for each recording there")
    parser.add_argument(
        "--longest",
        type=float,
        default=LONGEST,
        metavar="SECONDS",
        help="of audio at a time (15): more needs more memory",
    )
    parser.add_argument("--lm", metavar="FILE", help="KenLM language model: ARPA, or binary with --lexicon")
    parser.add_argument("--lexicon", metavar="FILE", help="lines of WORD UNIT UNIT ... (the words of --lm in letters)")
    parser.add_argument("--lm-weight", type=float, default=2.0, metavar="X", help="of the language model (2)")
    parser.add_argument("--word-score", type=float, default=-1.0, metavar="X", help="added for each word (-1)")
    parser.add_argument("--beam", type=int, default=50, metavar="N", help="hypotheses that --lm keeps (50)")


def write(one: Transcript, args: argparse.Namespace, several: bool) -> None:
    text = FORMATS[args.output](one)
    if args.dest is None:
        try:
            sys.stdout.write(f"{one.name}\t{text}" if several and args.output == "text" else text)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader, `head` say, has what it wanted
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to be flushed at the end
            sys.exit(128 + 13)  # as if SIGPIPE had ended it
        return
    with open(os.path.join(args.dest, output_name(one.name, args.output)), "w", encoding="utf-8") as file:
        file.write(text)


def run(model: Any, args: argparse.Namespace, bar: TextIO) -> int:
    """-> exit status."""
    if not model.symbols:
        raise ValueError("this student was not fine-tuned: it has features, but no words")
    (names, wrong), seconds, start = files_in(args.audio), 0.0, time.monotonic()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names and words that this terminal cannot show
    if len(names) > 1 and args.output in ONE_FILE and args.dest is None:
        raise ValueError(f"--output {args.output} holds one recording: give --dest FOLDER for {len(names)} of them")
    if not 5 <= args.longest <= 3600:
        raise ValueError(f"--longest {args.longest:g}: 5 to 3600 seconds")
    if args.dest is not None or args.output == "ctm":
        check_names(names, args.output)
    if args.lexicon and not args.lm or args.beam < 1:
        raise ValueError("--lexicon is for --lm, and --beam is 1 or more")
    if args.lm:
        model.search = Search(model, args.lm, args.lexicon, args.lm_weight, args.word_score, args.beam)
    if args.dest is not None:
        os.makedirs(args.dest, exist_ok=True)
    for number, (_, one) in enumerate(transcripts(model, names, args.longest), 1):
        if isinstance(one, ValueError):
            wrong.append(str(one))
        else:
            seconds += one.seconds
            if bar.isatty() and args.dest is None:
                bar.write("\r\x1b[K")
                bar.flush()
            write(one, args, len(names) > 1)
        if bar.isatty():
            speed = seconds / max(time.monotonic() - start, 1e-3)
            bar.write(f"\r{number} of {len(names)} files, {seconds / 60:.1f} minutes, {speed:.0f} x real time")
    if bar.isatty():
        bar.write("\n")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def main() -> int:
    """Of an exported folder, with the model beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    args = parser.parse_args()
    try:
        return run(OnnxModel(os.path.dirname(os.path.realpath(__file__))), args, sys.stderr)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
