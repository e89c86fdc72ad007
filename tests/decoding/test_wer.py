"""Error rates against hand-worked ones, intervals against the normal approximation."""

import math

import numpy as np
import pytest

from distill_user_dir.decoding import wer


@pytest.mark.parametrize(
    "reference, hypothesis, expected",
    [
        ("the cat sat", "the cat sat", (0, 3, 0, 11)),
        # cat -> cut; `on` inserted: 2 words; a -> u, " on": 4 characters
        ("the cat sat", "the cut sat on", (2, 3, 4, 11)),
        # one word lost with the space before it: 1 word, 4 characters
        ("the cat sat", "the cat", (1, 3, 4, 11)),
        # words run together: one substituted, one lost; one character, the space
        ("the cat sat", "thecat sat", (2, 3, 1, 11)),
        ("the cat", "", (2, 2, 7, 7)),
        ("", "oh no", (2, 0, 5, 0)),
        ("  the   cat ", "the cat", (0, 2, 0, 7)),
        ("naïve 猫", "naive 猫", (1, 2, 1, 7)),
    ],
)
def test_hand_worked_counts(reference, hypothesis, expected):
    assert wer.count_errors(reference, hypothesis) == expected


def test_corpus_rate_weighs_words_not_utterances():
    # 1 of 1 and 0 of 9: a mean over utterances would be 50%
    assert wer.corpus_rate([1, 0], [1, 9]) == 0.1


def test_insertions_lead_above_one():
    assert wer.corpus_rate([3], [2]) == 1.5


@pytest.mark.parametrize("function", [wer.corpus_rate, wer.bootstrap_interval])
def test_no_words_is_an_error(function):
    with pytest.raises(ValueError, match="2 references"):
        function([1, 2], [0, 0])


@pytest.mark.parametrize("level, z", [(0.95, 1.959964), (0.8, 1.281552)])
def test_interval_is_the_normal_approximation(level, z):
    # utterances of 10 words, each word wrong with probability 0.2: sd of the rate is sqrt(p q / (10 n))
    count = 3000
    errors = np.random.default_rng(0).binomial(10, 0.2, size=count)
    low, high = wer.bootstrap_interval(errors, np.full(count, 10), samples=4000, level=level)
    half = z * errors.std() / 10 / math.sqrt(count)
    rate = errors.mean() / 10
    assert low == pytest.approx(rate - half, abs=0.06 * half)
    assert high == pytest.approx(rate + half, abs=0.06 * half)


def test_utterances_are_resampled_not_words():
    # the same 20% of words wrong, but all in one utterance of five: sd is that of whole utterances
    count = 1000
    errors = np.tile([10, 0, 0, 0, 0], count // 5)
    low, high = wer.bootstrap_interval(errors, np.full(count, 10), samples=4000)
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.2 * 0.8 / count), rel=0.06)


def test_interval_ignores_block_size_and_repeats(monkeypatch):
    errors, totals = [0, 3, 1, 0, 2], [4, 9, 7, 0, 5]
    whole = wer.bootstrap_interval(errors, totals)
    assert whole == wer.bootstrap_interval(errors, totals)
    monkeypatch.setattr(wer, "BLOCK", 7)
    assert whole == wer.bootstrap_interval(errors, totals)


def test_certain_results_have_no_width():
    assert wer.bootstrap_interval([0, 0], [3, 4]) == (0.0, 0.0)
    assert wer.bootstrap_interval([1], [4]) == (0.25, 0.25)


def test_draws_without_a_word_are_left_out():
    low, high = wer.bootstrap_interval([1, 0], [2, 0])
    assert 0 <= low <= high == 0.5


@pytest.mark.parametrize(
    "names, ids",
    [
        (["a/x.wav", "b/y.flac"], ["x", "y"]),
        (["a/x.wav", "b/x.wav"], ["a/x", "b/x"]),
        (["x.wav", "x.flac"], ["x.wav", "x.flac"]),
        (["s.1.wav", "s.2.wav"], ["s.1", "s.2"]),
        (["all.zip:0:10", "all.zip:10:20"], ["all.zip:0:10", "all.zip:10:20"]),
    ],
)
def test_utterance_ids(names, ids):
    assert wer.utterance_ids(names) == ids


def test_a_path_listed_twice_is_an_error():
    with pytest.raises(ValueError, match="a/x.wav more than once"):
        wer.utterance_ids(["a/x.wav", "b/y.wav", "a/x.wav"])


def test_complete_says_nothing():
    assert wer.check_complete("test.tsv", ["a", "b"], ["b", "a"]) is None


def test_incomplete_gives_counts_and_first_ids():
    expected = [f"u{i}" for i in range(9)]
    with pytest.raises(ValueError) as caught:
        wer.check_complete("test.tsv", expected, ["u8", "u0", "u8"])
    assert str(caught.value).startswith(
        "test.tsv: 2 of 9 utterances scored; missing: 7 (u1, u2, u3, u4, u5, ...); more than once: 1 (u8); "
    )


def test_summary_and_report_by_hand():
    scored = [
        wer.Scored("a", wer.Errors(1, 4, 2, 20), "", "", 16000),
        wer.Scored("b", wer.Errors(1, 4, 2, 20), "", "", 48000),
    ]
    result = wer.summary(scored, 0.5, 16000)
    assert (result["wer"], result["cer"], result["audio_seconds"], result["rtf"]) == (25.0, 10.0, 4.0, 0.125)
    line = "WER 25.00% [25.00, 25.00]  CER 10.00% [10.00, 10.00]  2 of 2 utterances"
    assert wer.report(result) == line
