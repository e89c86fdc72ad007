"""Recordings of any length and format to words, with a model that reads its units off the audio."""

import argparse
import io
import json
import os
import random
import struct
import sys

import numpy as np
import pytest
import soundfile

from distill_user_dir.shipping import runner
from tests.decoding.letter_model import write_arpa

SYMBOLS = ["", *"|ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
SHIFT = 320


class Reader:
    """Each frame's unit is its first sample, in steps of a thirty-second; it refuses more than `most` samples."""

    symbols, units, sample_rate, frame_shift, window, shortest = SYMBOLS, "letter", 16000, SHIFT, 400, 400
    most = 30 * 16000
    batches = 0

    def outputs(self, audio):
        self.batches += 1
        batch, lengths = runner.padded(audio, self.shortest)
        assert int(lengths.max()) <= self.most and int(lengths.min()) >= self.window
        units = np.rint(batch[:, ::SHIFT] * 32).astype(int)
        likely = np.log(np.where(np.eye(len(SYMBOLS))[units] > 0, 0.9, 0.1 / (len(SYMBOLS) - 1)))
        return [one[: (count - 400) // SHIFT + 1].astype(np.float32) for one, count in zip(likely, lengths)]


def spoken(words, gaps):
    """(samples,) in which a letter has two frames and a blank behind it, and a word a separator and a gap of frames."""
    frames = []
    for word, gap in zip(words, gaps):
        for letter in word:
            frames += [SYMBOLS.index(letter)] * 2 + [0]
        frames += [1] + [0] * gap
    return np.repeat(np.array(frames + [0]) / 32, SHIFT).astype(np.float32)[: len(frames) * SHIFT + 80]


def saying(count, longest_gap, seed=0):
    rng = random.Random(seed)
    words = ["".join(rng.choice(SYMBOLS[2:]) for _ in range(rng.randint(1, 7))) for _ in range(count)]
    return words, spoken(words, [rng.randint(0, longest_gap) for _ in words])


def write(path, samples, rate=16000, **options):
    soundfile.write(str(path), samples, rate, **options)
    return str(path)


def said(name, model=None, longest=30.0):
    ((_, found),) = runner.transcripts(model or Reader(), [name], longest)
    return found


@pytest.mark.parametrize("longest_gap", [0, 3, 60])
def test_a_long_recording_has_every_word_once_and_in_its_place(tmp_path, longest_gap):
    words, samples = saying(900, longest_gap)
    name, model = write(tmp_path / "long.wav", samples, subtype="FLOAT"), Reader()
    found = said(name, model)
    assert [word.word for word in found.words] == words
    assert len(samples) > 7 * 30 * 16000 and model.batches > 7
    starts = [word.start for word in found.words]
    at = 0.0
    for word, start in zip(words, starts):
        at = next(i for i in range(round(at), len(samples), SHIFT) if samples[i] * 32 == SYMBOLS.index(word[0]))
        assert start == pytest.approx(at / 16000)
        at += 3 * SHIFT * len(word)
    assert all(0.89 < word.confidence < 0.91 for word in found.words)


def test_short_files_are_batched_and_come_back_in_their_order(tmp_path):
    names, expected = [], []
    for i in range(40):
        words, samples = saying(1 + (i * 7) % 12, 5, seed=i)
        names.append(write(tmp_path / f"{i:02d}.wav", samples, subtype="FLOAT"))
        expected.append(" ".join(words))
    model = Reader()
    found = list(runner.transcripts(model, names))
    assert [name for name, _ in found] == names and [one.text for _, one in found] == expected
    assert model.batches < 10


def test_rates_channels_and_formats(tmp_path):
    seconds = np.arange(44100 * 12) / 44100
    tone = 0.25 * np.sin(2 * np.pi * 440 * seconds)
    for ending, options in {"wav": {}, "flac": {}, "ogg": {}, "mp3": {}}.items():
        name = write(tmp_path / f"tone.{ending}", np.stack([tone, tone, 0 * tone, 0 * tone][:2], 1), 44100, **options)
        with runner.Recording(name, 16000) as recording:
            blocks = list(recording.blocks())
        audio = np.concatenate(blocks)
        assert len(blocks) > 1 and abs(len(audio) - 12 * 16000) < 3000
        spectrum = np.abs(np.fft.rfft(audio[16000:32000]))
        assert spectrum.argmax() == 440 and np.abs(audio[16000:32000]).max() == pytest.approx(0.25, abs=0.02)
    eight = write(tmp_path / "eight.wav", np.tile(tone[:16000, None], 8) * np.eye(8)[3], 16000)
    with runner.Recording(eight, 16000) as recording:
        assert np.concatenate(list(recording.blocks())) == pytest.approx(tone[:16000] / 8, abs=1e-4)


@pytest.mark.parametrize("stated", [0, 0xFFFFFFFF, 0x7FFFFFFF - 44, None])
def test_a_pipe_whose_header_knows_no_length_is_read_to_its_end(stated, monkeypatch):
    words, samples = saying(60, 5)
    stream = io.BytesIO()
    soundfile.write(stream, samples, 16000, format="WAV", subtype="FLOAT")
    content = bytearray(stream.getvalue())
    if stated is not None:
        struct.pack_into("<I", content, content.index(b"data") + 4, stated)
    monkeypatch.setattr(sys, "stdin", type("Pipe", (), {"buffer": io.BytesIO(bytes(content))}))
    assert said("-").text == " ".join(words)


def test_each_bad_file_is_named_and_the_others_are_done(tmp_path, capsys):
    words, samples = saying(5, 5)
    good = write(tmp_path / "good.wav", samples, subtype="FLOAT")
    cut = tmp_path / "cut.flac"
    write(cut, np.tile(samples, 9) / 2)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (tmp_path / "text.wav").write_text("no audio")
    write(tmp_path / "empty.wav", samples[:0])
    write(tmp_path / "short.wav", samples[:399])
    write(tmp_path / "nan.wav", np.full(16000, np.nan), subtype="FLOAT")
    good2 = write(tmp_path / "steps.wav", np.repeat([0.1, -0.1], 160000))  # constant in each block that is read
    with runner.Recording(good2, 16000) as recording:
        assert sum(map(len, recording.blocks())) == 320000
    for name, seconds in (("silent.wav", 2), ("muted.wav", 20)):  # in one piece, and in several
        write(tmp_path / name, np.full(seconds * 16000, 0.25))
    (tmp_path / "x.raw").write_bytes(bytes(4000))
    names = ["x.raw", "cut.flac", "text.wav", "empty.wav", "short.wav", "nan.wav", "silent.wav"]
    names += ["muted.wav", "absent.wav"]
    arguments = [*(str(tmp_path / name) for name in names), good]
    status = runner.run(Reader(), parsed(arguments), io.StringIO())
    printed = capsys.readouterr()
    assert status == 1 and printed.out == f"{good}\t{' '.join(words)}\n"
    lines = printed.err.splitlines()
    assert len(lines) == len(names) and all(str(tmp_path / name) in line for name, line in zip(names, lines))


def test_a_reader_that_has_enough_ends_it_without_a_word(tmp_path, monkeypatch, capfd):
    good = write(tmp_path / "good.wav", saying(5, 5)[1], subtype="FLOAT")
    read, written = os.pipe()
    os.close(read)
    with os.fdopen(written, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        with pytest.raises(SystemExit) as ended:
            runner.run(Reader(), parsed([good]), io.StringIO())
    assert ended.value.code == 141 and capfd.readouterr().err == ""


def parsed(arguments):
    parser = argparse.ArgumentParser()
    runner.add_options(parser)
    return parser.parse_args(arguments)


ONE = runner.Transcript(
    "a/talk one.wav", [runner.Word("HELLO", 0.5, 1.0, 0.5), runner.Word("YOU", 3661.25, 3661.5, 1)], 3662.0
)


def test_formats():
    assert runner.as_text(ONE) == "HELLO YOU\n"
    assert runner.as_ctm(ONE).splitlines()[0] == "talk_one 1 0.50 0.50 HELLO 0.5000"
    assert runner.as_srt(ONE).split("\n\n")[1] == "2\n01:01:01,250 --> 01:01:01,500\nYOU"
    assert runner.as_vtt(ONE).startswith("WEBVTT\n\n00:00:00.500 --> 00:00:01.000\nHELLO\n")
    told = json.loads(runner.as_json(ONE))
    assert told["confidence"] == 0.75 and told["words"][1] == {
        "word": "YOU",
        "start": 3661.25,
        "end": 3661.5,
        "confidence": 1,
    }


def test_captions_can_be_read():
    words = [runner.Word("WORD", i * 0.5, i * 0.5 + 0.4, 1.0) for i in range(100)]
    shown = runner.captions(words)
    assert [word for caption in shown for word in caption] == words
    assert max(caption[-1].end - caption[0].start for caption in shown) <= runner.CAPTION_SECONDS
    assert max(len(" ".join(word.word for word in caption)) for caption in shown) <= runner.CAPTION_CHARACTERS


def test_folders_and_patterns(tmp_path):
    for name in ("b.wav", "a/c.FLAC", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert runner.files_in([str(tmp_path)]) == ([str(tmp_path / "a/c.FLAC"), str(tmp_path / "b.wav")], [])
    found, wrong = runner.files_in([str(tmp_path / "*.wav"), "-", str(tmp_path / "*.mp3")])
    assert found == [str(tmp_path / "b.wav"), "-"] and wrong == [f"{tmp_path}/*.mp3: no file of such a name"]


def test_two_recordings_of_one_name_are_not_written_over_each_other(tmp_path):
    (tmp_path / "more").mkdir()
    samples = spoken(["A"], [3])
    names = [write(tmp_path / "a.wav", samples), write(tmp_path / "more" / "a.wav", samples)]
    for options in (["--output", "ctm"], ["--dest", str(tmp_path / "out")]):
        with pytest.raises(ValueError, match=f"^{names[1]}: of the same name as {names[0]}"):
            runner.run(Reader(), parsed([*names, *options]), io.StringIO())


def test_sentencepieces():
    symbols = ["", "\u2581he", "llo", "\u2581you"]
    path = [0, 1, 1, 0, 2, 2, 0, 3, 0]
    log_probs = np.log(np.eye(4)[path] * 0.9 + 0.02)
    words = runner.words_of(log_probs, symbols, "sentencepiece", 0.02)
    assert [(word.word, round(word.start, 2), round(word.end, 2)) for word in words] == [
        ("hello", 0.02, 0.12),
        ("you", 0.14, 0.16),
    ]


def test_a_language_model_chooses_the_words(tmp_path, capsys):
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    words, likely = ["HELLO", "HALLO", "WORLD", "IT'S"], {("HALLO", "WORLD"): -0.1, ("HELLO", "WORLD"): -3}
    lm = str(write_arpa(tmp_path / "lm.arpa", dict.fromkeys(words, -1.0), likely))
    name = write(tmp_path / "a.wav", spoken(["HXLLO", "WORLD"], [3, 80]), subtype="FLOAT")
    plain, found = said(name), None
    assert runner.run(Reader(), parsed([name, "--lm", lm, "--output", "json"]), io.StringIO()) == 0
    found = json.loads(capsys.readouterr().out)
    assert plain.text == "HXLLO WORLD" and found["text"] == "HALLO WORLD"
    starts = [word["start"] for word in found["words"]]
    assert starts == pytest.approx([word.start for word in plain.words])
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("HELLO H E L L O |\nDR. W O R L D\n")
    assert runner.run(Reader(), parsed([name, "--lm", lm, "--lexicon", str(lexicon)]), io.StringIO()) == 0
    assert capsys.readouterr().out == "HELLO DR.\n"


@pytest.mark.parametrize(
    "text, told", [("HELLO h e", "txt:1: a spelling with 'e'"), ("A", "txt:1: a word unspelled"), ("", "no words")]
)
def test_a_lexicon_that_does_not_fit_is_refused(tmp_path, text, told):
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    lm = str(write_arpa(tmp_path / "lm.arpa", {"HELLO": -1.0}, {}))
    (tmp_path / "lexicon.txt").write_text(text)
    with pytest.raises(ValueError, match=told):
        runner.Search(Reader(), lm, str(tmp_path / "lexicon.txt"), 2.0, -1.0, 50)
    (tmp_path / "binary").write_bytes(b"mmap lm\xff\xfe\x00")
    with pytest.raises(ValueError, match="binary: no ARPA file.*--lexicon"):
        runner.Search(Reader(), str(tmp_path / "binary"), None, 2.0, -1.0, 50)
