"""Units learned and applied: what they say is what was written, to the character."""

import importlib

import pytest
import torch
from fairseq.data.data_utils import post_process
from fairseq.data.dictionary import Dictionary
from omegaconf import OmegaConf

from distill_user_dir import infer  # noqa: F401  (fairseq's examples can be imported after it)
from distill_user_dir.decoding.held_units import hear_held_units
from distill_user_dir.decoding.word_times import word_times
from manifests import lexicon, sentencepieces
from tests.decoding.letter_model import write_arpa

TEXT = ["THE CAT SAT ON THE MAT", "IT'S A DOG AND A CAT", "NO NO NO", "SEVEN SHEEP SLEEP ON THE MAT", "A HAT"]


@pytest.fixture
def data(tmp_path):
    (tmp_path / "train.wrd").write_text("".join(f"{line}\n" for line in TEXT * 3))
    (tmp_path / "dev.wrd").write_text("THE SHEEP\nA CAT'S HAT\n")
    return tmp_path


def run(*arguments):
    return sentencepieces.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_words_come_back_character_by_character(data, capsys, kind):
    assert run(data, "--learn", "train", "--size", 24, "--type", kind) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"{data}/train.spm: ") and told[1].startswith(f"{data}/dev.spm: ")
    for split in ("train", "dev"):
        written = (data / f"{split}.spm").read_text().splitlines()
        words = (data / f"{split}.wrd").read_text().splitlines()
        assert [post_process(line, "sentencepiece") for line in written] == words
    loaded = Dictionary.load(str(data / "dict.spm.txt"))
    assert len(loaded) == 4 + 23  # fairseq's specials, and all but sentencepiece's <unk>
    for line in (data / "dev.spm").read_text().splitlines():
        encoded = loaded.encode_line(line, append_eos=False, add_if_not_exist=False)
        assert loaded.unk() not in encoded.tolist()
        assert post_process(loaded.string(encoded), "sentencepiece") == post_process(line, "sentencepiece")


def test_a_model_that_is_there_is_applied_and_kept(data):
    assert run(data, "--learn", "train", "--size", 24, "--splits", "dev") == 0
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    (data / "dev.spm").unlink()
    assert run(data, "--splits", "dev") == 0
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before


@pytest.mark.parametrize(
    "prepare, options, expected",
    [
        (lambda data: (data / "dev.wrd").write_text("A ZOO\nÉ\n"), [], "dev.wrd:2: not to be said in these units: 'É'"),
        (lambda data: (data / "dev.wrd").write_text("A  CAT\n"), [], "dev.wrd:1: not to be said in these units"),
        (lambda data: None, ["--size", 5000], "5000 unigram units of 15 lines: "),
        (lambda data: (data / "train.wrd").unlink(), [], "train.wrd"),
    ],
)
def test_what_cannot_be_is_named(data, capsys, prepare, options, expected):
    prepare(data)
    assert run(data, "--learn", "train", *(options or ["--size", 24])) == 1
    assert expected in capsys.readouterr().err
    assert not any((data / name).exists() for name in ("train.spm", "dict.spm.txt", "spm.model"))


def test_without_a_model_there_is_nothing_to_apply(data, capsys):
    assert run(data) == 1
    assert "spm.model: no such model; name the split" in capsys.readouterr().err
    (data / "spm.model").write_bytes(b"no model")
    assert run(data) == 1
    assert "spm.model: no sentencepiece model" in capsys.readouterr().err


def test_a_lexicon_in_these_units(data):
    assert run(data, "--learn", "train", "--size", 24) == 0
    arguments = ["--sentencepiece", str(data / "spm.model"), "--words", str(data / "train.wrd")]
    assert lexicon.main([str(data / "dict.spm.txt"), "--dest", str(data / "lexicon.txt"), *arguments]) == 0
    lines = [line.split("\t") for line in (data / "lexicon.txt").read_text().splitlines()]
    assert [post_process(spelling, "sentencepiece") for _, spelling in lines] == [word for word, _ in lines]
    assert [word for word, _ in lines] == sorted({word for line in TEXT for word in line.split()})


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_search_hears_units_however_long_they_last(data, frames):
    """As Viterbi does; flashlight by itself would hear a word's last unit for one frame only."""
    assert run(data, "--learn", "train", "--size", 24) == 0
    arguments = ["--sentencepiece", str(data / "spm.model"), "--words", str(data / "train.wrd")]
    assert lexicon.main([str(data / "dict.spm.txt"), "--dest", str(data / "lexicon.txt"), *arguments]) == 0
    words = {word: -1.0 for line in TEXT for word in line.split()}
    flashlight = importlib.import_module("examples.speech_recognition.new.decoders.flashlight_decoder")
    cfg = OmegaConf.structured(flashlight.FlashlightDecoderConfig)
    cfg.lmpath, cfg.lexicon = str(write_arpa(data / "lm.arpa", words, {("THE", "CAT"): -1.0})), f"{data}/lexicon.txt"
    cfg.lmweight, cfg.wordscore = 0.1, 0.0
    units = Dictionary.load(str(data / "dict.spm.txt"))
    decoder = flashlight.KenLMDecoder(cfg, units)
    hear_held_units(decoder)
    for line, spelled in zip(TEXT, (data / "train.spm").read_text().splitlines()):
        path = [index for unit in spelled.split() for index in [units.index(unit)] * frames + [0]]
        emissions = torch.nn.functional.one_hot(torch.tensor(path), len(units)).float()[None] * 10
        (best,) = decoder.decode(emissions)[0]
        assert best["words"] == line.split()
        times = word_times(best["words"], [units[token] for token in best["tokens"].tolist()], best["timesteps"])
        starts = [i * (frames + 1) for i, unit in enumerate(spelled.split()) if unit.startswith("\u2581")]
        assert [time.start for time in times] == starts
