"""Every voice and condition of a synthetic corpus sounds, and sounds as it is said to."""

import random
import sys

import numpy as np
import pytest

from manifests import effects, grammar, synthetic
from manifests.speakers import Engines, Natural, natural_speakers, speakers

BOTH = synthetic.Settings("sentences", voices=("espeak", "natural"), vary=True, conditions=("heard", "noisy"), test=48)
natural = pytest.mark.skipif(sys.version_info < (3, 9), reason="hibari-tts takes Python 3.9 or later")


def vowel(pitch=120.0, seconds=1.0):
    """(samples,) of a buzz through two formants, at 800 and 2,200 Hz."""
    time = np.arange(int(16000 * seconds)) / 16000
    harmonics = np.arange(1, int(7000 / pitch)) * pitch
    gains = sum(1 / (1 + ((harmonics - formant) / 150) ** 2) for formant in (800.0, 2200.0))
    return (np.sin(2 * np.pi * harmonics[:, None] * time + harmonics[:, None]) * gains[:, None]).sum(0)


def formants(samples):
    """Centres of the spectrum's energy below and above 1,500 Hz, in Hz."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.arange(len(power)) * 16000 / len(samples)
    return [(power * hertz)[part].sum() / power[part].sum() for part in (hertz < 1500, hertz >= 1500)]


def pitch_of(samples):
    """In Hz, by the autocorrelation's top."""
    whole = np.correlate(samples[4000:8000], samples[4000:8000], "full")[3999:]
    return 16000 / (60 + whole[60:300].argmax())


@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_a_warp_moves_the_formants_alone(factor):
    plain = vowel()
    warped = effects.warp_formants(plain, factor)
    assert len(warped) == len(plain) and pitch_of(warped) == pytest.approx(pitch_of(plain), rel=0.02)
    assert formants(warped) == pytest.approx([factor * one for one in formants(plain)], rel=0.06)
    assert np.allclose(effects.warp_formants(plain, 1.000001), plain, atol=1e-3 * np.abs(plain).max())


def test_a_transposition_moves_pitch_and_length():
    higher = effects.transpose(vowel(), 1.25)
    assert len(higher) == pytest.approx(16000 / 1.25, abs=2) and pitch_of(higher) == pytest.approx(150, rel=0.02)


def test_a_room_dies_away_in_its_time():
    click = np.zeros(16000)
    click[0] = 1.0
    answer = effects.reverberate(click, seconds=0.3, level=-6.0, seed=1)
    energy = np.cumsum(answer[:0:-1] ** 2)[::-1]
    assert energy[0] == pytest.approx(10**-0.6, rel=0.01) and answer[0] == pytest.approx(1.0)
    halfway = 10 * np.log10(energy[2400] / energy[0])  # after half of the time it is 30 dB weaker
    assert -33 < halfway < -27


def test_no_sentence_is_on_two_sides():
    for name in grammar.GRAMMARS:
        sides = [{grammar.sentence(name, side, random.Random(i)) for i in range(3000)} for side in ("train", "test")]
        assert not sides[0] & sides[1]
        words = {word for side in sides for text in side for word in text.split()}
        assert all(word.isalpha() and word.isupper() for word in words)
        assert name != "sentences" or len(words) >= 300 and len(sides[0]) > 2900


def test_conditions_are_what_they_say():
    by_split = {split: synthetic.utterances(BOTH, split) for split in BOTH.sizes()}
    who = {split: {one.speaker for one in items} for split, items in by_split.items()}
    assert not (who["train"] & who["test"] or who["train"] & who["valid"] or who["valid"] & who["test"])
    assert who["test_heard"] <= who["train"] and who["test_noisy"] <= who["train"]
    trained = {one.words for one in by_split["train"]}
    assert not any(one.words in trained for split in by_split if split.startswith("test") for one in by_split[split])
    assert {one.snr for one in by_split["test_noisy"]} == {(0.0, 10.0)} and BOTH.snr == (15.0, 40.0)
    engines = [one.speaker.engine for one in by_split["train"]]
    assert engines.count("natural") == engines.count("espeak")
    alone = synthetic.Settings(conditions=("natural",), test=3)
    assert {one.speaker.name for one in synthetic.utterances(alone, "test_natural")} == {"heart"}


def sounds_right(samples, words):
    """Long enough, loud enough, not clipped, not silence for the most part, and most of it below 4 kHz."""
    assert 0.12 < len(samples) / 16000 / words < 1.6
    assert 0.19 < np.abs(samples).max() < 0.81 and np.isfinite(samples).all()
    frames = samples[: len(samples) // 400 * 400].reshape(-1, 400)
    levels = np.sqrt((frames**2).mean(1))
    assert (levels > 0.1 * levels.max()).mean() > 0.25
    power = np.abs(np.fft.rfft(samples)) ** 2
    edges = [int(f * len(samples) / 16000) for f in (80, 4000)]
    assert power[edges[0] : edges[1]].sum() > 0.5 * power.sum() and abs(samples.mean()) < 0.01


def check_everyone(settings, splits):
    heard = set()
    with Engines(settings.voices) as engines:
        for split in splits:
            for item in synthetic.utterances(settings, split):
                if item.speaker not in heard or split == "test_noisy":
                    sounds_right(synthetic.waveform(item, settings, engines), len(item.words.split()))
                heard.add(item.speaker)
    return heard


def test_every_voice_of_espeaks_sounds():
    settings = synthetic.Settings("digits", train=80, valid=8, test=16, vary=True, conditions=("noisy",))
    everyone = {one for of_split in speakers(0, vary=True).values() for one in of_split}
    assert check_everyone(settings, settings.sizes()) == everyone and len(everyone) == 104


@natural
def test_every_natural_voice_sounds():
    settings = synthetic.Settings("sentences", train=36, valid=4, test=8, voices=("natural",), vary=True)
    assert check_everyone(settings, settings.sizes()) == set(natural_speakers(0))


@natural
def test_the_natural_voice_says_the_same_twice_and_downloads_nothing(monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection was opened"))
    first, again = (Natural().speak("The lamp is on.", 1.1, 5) for _ in range(2))
    assert np.array_equal(first, again) and len(first) > 24000 * 0.5


@natural
def test_a_corpus_of_both_is_made_again_byte_by_byte(tmp_path):
    options = (
        "--grammar sentences --voices natural espeak --vary --conditions heard --train 4 --valid 2 --test 2".split()
    )
    contents = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        assert synthetic.main([str(folder), *options]) == 0
        contents.append({str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert contents[0] == contents[1] and len([name for name in contents[0] if name.endswith(".flac")]) == 10


@pytest.mark.parametrize(
    "options, told",
    [
        (["--snr", "30", "10"], "--snr 30 10: give LOW <= HIGH between -20 and 100"),
        (["--speed", "0.1", "1"], "--speed 0.1 1: give LOW <= HIGH between 0.5 and 2"),
        (["--test", "-1"], "--test -1: a number of utterances is 0 or more"),
        (["--voices", "natural", "--conditions", "natural"], "--conditions natural: no test of a voice"),
    ],
)
def test_bad_options_are_one_line(tmp_path, capsys, options, told):
    assert synthetic.main([str(tmp_path / "none"), *options]) == 1
    assert capsys.readouterr().err.startswith(told) and not (tmp_path / "none").exists()


def test_a_voice_that_is_not_installed_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "hibari", None)
    options = ["--voices", "natural", "--train", "1", "--valid", "0", "--test", "0"]
    assert synthetic.main([str(tmp_path), *options]) == 1
    assert "hibari is needed" in capsys.readouterr().err
