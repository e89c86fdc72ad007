"""Decoding with language models small enough to work out by hand: what is heard, and what they make of it.

A frame's logit is 5 for what is heard and 0 for all else; KenLM's scores are logarithms to base 10. With weight 8 and
word score 12 all is right; margins are 2 or more, since equal scores come out in any order.
"""

import sys

import pytest
import torch
from fairseq.data.dictionary import Dictionary

from distill_user_dir import infer, tune
from distill_user_dir.decoding.processor import Processor
from distill_user_dir.decoding.word_times import WordTime, word_times
from manifests import lexicon
from tests.decoding.letter_model import LETTERS, language_model, save_checkpoint, write_arpa, write_split
from tests.helpers import RECIPES

# What a language model has to know: (path, reference, what the audio says)
UTTERANCES = [
    ("u1.wav", "THE HAT", "THE HIT"),  # HAT behind THE is likelier than HIT: needs a weight above 5
    ("u2.wav", "A RED HEN", "A RED HEN"),  # HAT behind RED is likelier than HEN: needs one below 25
    ("u3.wav", "NO NO", "NONO"),  # needs a word score above 5 and half of the weight
    ("u4.wav", "TINTIN", "TINTIN"),  # and none at which more words come out of nothing
]
WORDS = {"THE": -1.0, "HIT": -2.0, "HAT": -2.0, "A": -1.0, "RED": -2.0, "HEN": -2.0}
WORDS.update({"NO": -1.0, "NONO": -1.0, "TIN": -3.0, "TINTIN": -1.0})
PAIRS = {("THE", "HAT"): -0.5, ("THE", "HIT"): -1.5, ("RED", "HAT"): -1.0, ("RED", "HEN"): -1.4, ("NO", "NO"): -0.5}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_split(folder, "dev", UTTERANCES)
    save_checkpoint(folder / "letters.pt", {"_name": "letters_for_test"}, {"gain": torch.tensor(64.0)})
    arpa = write_arpa(folder / "lm.arpa", WORDS, PAIRS)
    assert lexicon.main([f"{folder}/dict.ltr.txt", "--arpa", str(arpa), "--dest", f"{folder}/lexicon.txt"]) == 0
    return folder


@pytest.fixture
def command(data, tmp_path, monkeypatch, capsys):
    """Runs a command line in this process -> what it printed."""

    def run(main, *arguments, name="kenlm", folder=RECIPES / "decode", lm=True, **overrides):
        given = {
            "task.data": data,
            "common_eval.path": data / "letters.pt",
            "dataset.gen_subset": "dev",
            "decoding.results_path": tmp_path / "out",
            "common.cpu": "true",
            "dataset.num_workers": 0,
        }
        if lm:
            given.update({"decoding.lmpath": data / "lm.arpa", "decoding.lexicon": data / "lexicon.txt"})
        given.update({key.replace("__", "."): value for key, value in overrides.items()})
        recipe = ["--config-dir", str(folder), "--config-name", name]
        monkeypatch.setattr(sys, "argv", ["x", *arguments, *recipe, *(f"{k}={v}" for k, v in given.items())])
        main()
        return capsys.readouterr().out

    return run


def hypotheses(folder):
    return [line.split("\t")[6] for line in (folder / "utterances.tsv").read_text().splitlines()[1:]]


HEARD = [heard for _, _, heard in UTTERANCES]
SAID = [reference for _, reference, _ in UTTERANCES]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_language_model_decides_where_viterbi_is_wrong(command, tmp_path, batch_size):
    command(infer.main, name="viterbi", lm=False, dataset__batch_size=batch_size)
    assert hypotheses(tmp_path / "out") == HEARD
    command(infer.main, decoding__lmweight=8, decoding__wordscore=12, dataset__batch_size=batch_size)
    assert hypotheses(tmp_path / "out") == SAID
    command(infer.main, decoding__lmweight=1, decoding__wordscore=0, dataset__batch_size=batch_size)
    assert hypotheses(tmp_path / "out") == HEARD


def test_nbest(command, tmp_path):
    command(infer.main, decoding__nbest=2, decoding__lmweight=8, decoding__wordscore=12)
    rows = [line.split("\t") for line in (tmp_path / "out" / "nbest.tsv").read_text().splitlines()]
    assert rows[0] == ["id", "rank", "score", "hyp"] and [row[1] for row in rows[1:]] == ["1", "2"] * 4
    assert [row[3] for row in rows[1::2]] == SAID and rows[2][3] == "THE HIT"
    best, second = (float(row[2]) for row in rows[1:3])
    assert best - second == pytest.approx(8 * (1.5 - 0.5) - 5, abs=1e-3)  # one frame less heard
    command(infer.main)
    assert not (tmp_path / "out" / "nbest.tsv").exists()


def test_the_grid_finds_the_planted_optimum(command, tmp_path, data):
    arguments = ["--lmweights", "1", "8", "40", "--wordscores", "0", "12", "40"]
    told = command(tune.main, *arguments)
    rows = [line.split("\t") for line in (tmp_path / "out" / "tune.tsv").read_text().splitlines()]
    assert rows[0] == ["lmweight", "wordscore", "wer", "word_errors", "words"] and len(rows) == 10
    errors = {(row[0], row[1]): int(row[3]) for row in rows[1:]}
    assert errors["8", "12"] == 0 and sorted(errors.values())[1] > 0 and {row[4] for row in rows[1:]} == {"8"}
    assert "best: lmweight=8 wordscore=12, WER 0.00%" in told and "try some beyond" not in told
    for row in [row for row in rows[1:] if (row[0], row[1]) in {("1", "0"), ("8", "0"), ("8", "12")}]:
        # as a decode of its own has it; at the others words come out of nothing, in any order
        command(
            infer.main, decoding__lmweight=row[0], decoding__wordscore=row[1], decoding__results_path=tmp_path / "x"
        )
        table = (tmp_path / "x" / "utterances.tsv").read_text().splitlines()[1:]
        assert sum(int(line.split("\t")[1]) for line in table) == int(row[3])
    command(infer.main, folder=tmp_path / "out", name="best", lm=False, decoding__results_path=tmp_path / "best")
    assert hypotheses(tmp_path / "best") == SAID


def test_the_grid_in_several_processes_and_its_edges(command, tmp_path):
    tables = []
    for jobs in ("1", "2"):
        told = command(tune.main, "--lmweights", "8", "1", "--wordscores", "0", "6", "--jobs", jobs)
        tables.append((tmp_path / "out" / "tune.tsv").read_text())
        assert "lmweight=1 is at the end of its values: try some beyond" in told
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    "main, overrides, expected",
    [
        (infer.main, {"decoding__lexicon": "/none.txt"}, "decoding.lexicon=/none.txt: no such file"),
        (infer.main, {"decoding__lmpath": "/none.arpa"}, "decoding.lmpath=/none.arpa: no such file"),
        (infer.main, {"decoding__lmpath": "{data}/lexicon.txt"}, "lexicon.txt: KenLM cannot read it ("),
        (infer.main, {"decoding__lexicon": "{data}/foreign.txt"}, "foreign.txt:2: 'ZOO' is spelled with 'Z', which "),
        (infer.main, {"decoding__lexicon": "{data}/bare.txt"}, "bare.txt:1: 'THE' has no spelling"),
        (infer.main, {"decoding__lexicon": "{data}/empty.txt"}, "empty.txt: an empty lexicon"),
        (infer.main, {"name": "fairseqlm", "decoding__lmpath": "{data}/letters.pt"}, "letters.pt: no language model"),
        (tune.main, {"name": "viterbi", "lm": False}, "there is nothing to tune without a language model"),
    ],
)
def test_bad_input_is_one_line(command, data, main, overrides, expected):
    (data / "foreign.txt").write_text("THE\tT H E |\nZOO\tZ O O |\n")
    (data / "bare.txt").write_text("THE\n")
    (data / "empty.txt").write_text("\n")
    filled = {k: v.replace("{data}", str(data)) if isinstance(v, str) else v for k, v in overrides.items()}
    grid = ["--lmweights", "1", "--wordscores", "1"] if main is tune.main else []
    with pytest.raises(SystemExit) as caught:
        command(main, *grid, **filled)
    assert str(caught.value).startswith("error: ") and expected in str(caught.value)


def test_a_transformer_of_fairseqs_as_language_model(command, data, tmp_path):
    """Its output layer is set by hand: whatever came before, HAT is likelier than HIT by `difference`."""
    folder = tmp_path / "lm"
    folder.mkdir()
    state, model = language_model(folder, WORDS)
    words = Dictionary.load(str(folder / "dict.txt"))
    for difference, expected in ((0.2, "THE HIT"), (9.0, "THE HAT")):
        with torch.no_grad():
            model.decoder.layers[-1].final_layer_norm.weight.zero_()
            model.decoder.layers[-1].final_layer_norm.bias.copy_(torch.eye(16)[0])
            model.decoder.output_projection.weight.zero_()
            model.decoder.output_projection.weight[words.index("HAT"), 0] = difference
        torch.save(dict(state, model=model.state_dict()), str(folder / "lm.pt"))
        command(
            infer.main, name="fairseqlm", decoding__lmpath=folder / "lm.pt", decoding__lmweight=1, decoding__beam=20
        )
        assert hypotheses(tmp_path / "out")[0] == expected


def test_times_of_words():
    assert word_times(["AB", "A"], ["|", "A", "B", "|", "A", "|"], [0, 3, 4, 7, 9, 12]) == [
        WordTime("AB", 2, 4),
        WordTime("A", 8, 9),
    ]
    pieces = ["</s>", "\u2581AB", "C", "\u2581A", "</s>"]
    assert word_times(["ABC", "A"], pieces, [0, 1, 5, 6, 9]) == [WordTime("ABC", 0, 5), WordTime("A", 5, 6)]
    with pytest.raises(ValueError, match="1 words in the units A B"):
        word_times(["A", "B"], ["A", "B"], [1, 2])


def test_word_times_of_a_search_are_where_the_letters_are(command, tmp_path, monkeypatch):
    """A frame a letter and a blank behind each: `THE HAT` has its words at frames 0 to 5 and 8 to 13."""
    monkeypatch.setattr(Processor, "frame_seconds", lambda self: 0.02)
    command(infer.main, decoding__lmweight=8, decoding__wordscore=12)
    lines = (tmp_path / "out" / "words.ctm").read_text().splitlines()
    assert lines[:2] == ["u1 1 0.00 0.10 THE", "u1 1 0.16 0.10 HAT"] and len(lines) == 8


@pytest.mark.parametrize(
    "content, options, expected",
    [
        ("THE CAT\nA ZOO\n", ["--words"], "words:2: 'ZOO' needs 'Z', not in"),
        ("no model", ["--arpa"], "words: no \\1-grams:"),
        ("\\1-grams:\n-1\n", ["--arpa"], "words:2: no unigram"),
        ("THE", ["--sentencepiece", "{}", "--words"], "words: no sentencepiece model"),
    ],
)
def test_words_that_cannot_be_spelled_are_named(data, tmp_path, capsys, content, options, expected):
    (tmp_path / "words").write_text(content)
    options = [option.format(tmp_path / "words") for option in options]
    arguments = [str(data / "dict.ltr.txt"), "--dest", str(tmp_path / "out.txt"), *options, str(tmp_path / "words")]
    assert lexicon.main(arguments) == 1
    assert expected in capsys.readouterr().err and not (tmp_path / "out.txt").exists()


def test_a_lexicon_of_letters(data, tmp_path, capsys):
    (tmp_path / "words").write_text("THE CAT\nZOO THE\n")
    LETTERS.save(str(tmp_path / "dict.ltr.txt"))
    arguments = [str(tmp_path / "dict.ltr.txt"), "--dest", str(tmp_path / "l.txt"), "--words", str(tmp_path / "words")]
    assert lexicon.main([*arguments, "--skip-bad"]) == 0
    assert (tmp_path / "l.txt").read_text() == "THE\tT H E |\n"
    assert "2 of 3 words left out" in capsys.readouterr().err
    assert (data / "lexicon.txt").read_text().splitlines()[0] == "A\tA |"
