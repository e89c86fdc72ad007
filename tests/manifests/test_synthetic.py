import json
import os

import numpy as np
import pytest
import soundfile

from manifests import grammar, synthetic
from manifests.espeak_process import ACCENTS, VARIANTS, Espeak
from manifests.speakers import Engines, speakers

SMALL = ["--train", "5", "--valid", "2", "--test", "3"]


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    assert synthetic.main([str(folder), *SMALL]) == 0
    return folder


def test_same_call_same_bytes(corpus, tmp_path):
    assert synthetic.main([str(tmp_path), *SMALL]) == 0
    assert content(tmp_path) == content(corpus)


def test_a_split_does_not_depend_on_the_others(corpus, tmp_path):
    assert synthetic.main([str(tmp_path), "--train", "0", "--valid", "0", "--test", "3"]) == 0
    found = content(tmp_path)
    found.pop("settings.json")
    assert found == {name: data for name, data in content(corpus).items() if name.startswith("test")}


def test_another_seed_is_another_corpus(corpus):
    first, second = (synthetic.utterances(synthetic.Settings(seed=seed), "train") for seed in (0, 1))
    assert [item.words for item in first] != [item.words for item in second]


def test_form(corpus):
    for split, count in (("train", 5), ("valid", 2), ("test", 3)):
        lines = (corpus / f"{split}.trans.txt").read_text().splitlines()
        files = {path.stem: path for path in (corpus / split).glob("*/*.flac")}
        assert len(lines) == len(files) == count
        for line in lines:
            name, *words = line.split()
            assert 3 <= len(words) <= 6 and set(words) <= set(grammar.DIGITS)
            info = soundfile.info(str(files[name]))
            assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
            assert 0.2 < info.duration / len(words) < 1.2
            samples, _ = soundfile.read(str(files[name]))
            assert 0.19 < np.abs(samples).max() < 0.81


def test_no_speaker_in_two_splits():
    splits = speakers(seed=0)
    voices = {split: {speaker.voice for speaker in of_split} for split, of_split in splits.items()}
    everyone = [voice for of_split in voices.values() for voice in of_split]
    assert len(everyone) == len(set(everyone)) == len(ACCENTS) * len(VARIANTS)
    assert len(voices["train"]) >= 48 and len(voices["valid"]) >= 8 and len(voices["test"]) >= 8
    for split in splits:
        said_by = {item.speaker.voice for item in synthetic.utterances(synthetic.Settings(), split)}
        assert said_by == voices[split]


def test_voices_sound_different():
    voices = [f"{accent}+m1" for accent in ACCENTS] + [f"en-us+{name}" for name in VARIANTS]
    with Espeak() as espeak:
        said = {espeak.speak("one two", voice, 150, 50, 50, 0).tobytes() for voice in voices}
    assert len(said) == len(set(voices))


def test_whole_corpus_is_left_alone(corpus):
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    assert synthetic.main([str(corpus), *SMALL]) == 0
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


def test_interrupted_goes_on(corpus, tmp_path, monkeypatch):
    write, done = synthetic._write_audio, []

    def interrupted(path, samples):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(path)
        write(path, samples)

    monkeypatch.setattr(synthetic, "_write_audio", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synthetic.main([str(tmp_path), *SMALL])
    assert json.loads((tmp_path / "settings.json").read_text())["complete"] is False
    monkeypatch.setattr(synthetic, "_write_audio", write)
    settings = synthetic.Settings(train=5, valid=2, test=3)
    assert synthetic.synthesise(str(tmp_path), settings, progress=False) == 10 - 4
    assert content(tmp_path) == content(corpus)


def test_other_settings_are_refused(corpus, capsys):
    before = content(corpus)
    assert synthetic.main([str(corpus), "--train", "6", "--valid", "2", "--test", "3"]) == 1
    told = capsys.readouterr().err
    assert str(corpus) in told and "train 5 there, 6 asked for" in told
    assert content(corpus) == before


def test_commands_and_wav(tmp_path):
    options = ["--grammar", "commands", "--ext", "wav", "--clean", "--train", "2", "--valid", "0", "--test", "0"]
    assert synthetic.main([str(tmp_path), *options]) == 0
    assert len(list((tmp_path / "train").glob("*/*.wav"))) == 2
    words = [item.words for item in synthetic.utterances(synthetic.Settings(grammar="commands"), "train")]
    assert all(line == line.upper() and line.replace(" ", "").isalpha() for line in words)
    assert len(set(words)) > 100


def test_noise_has_the_ratio_asked_for():
    settings = [synthetic.Settings(snr=snr) for snr in (None, (10.0, 10.0))]
    with Engines(["espeak"]) as engines:
        clean, noisy = (synthetic.waveform(synthetic.utterances(s, "train")[0], s, engines) for s in settings)
    noise = noisy - clean * (noisy @ clean) / (clean @ clean)
    ratio = 10 * np.log10((noisy @ noisy - noise @ noise) / (noise @ noise))
    assert abs(ratio - 10) < 0.5


def test_trim_keeps_a_margin():
    samples = np.concatenate([np.full(50, 0.001), np.ones(10), np.full(5, 0.001), -np.ones(10), np.zeros(3)])
    assert len(synthetic.trim(samples, margin=8)) == 8 + 25 + 3
    np.testing.assert_array_equal(synthetic.trim(samples, margin=0), samples[50:75])


def test_an_unknown_voice_is_an_error():
    with Espeak() as espeak:
        with pytest.raises(RuntimeError, match="nonsense"):
            espeak.speak("one", "nonsense", 150, 50, 50, 0)
        assert len(espeak.speak("one", "en-us", 150, 50, 50, 0)) > 0.2 * espeak.sample_rate


def test_what_is_said_depends_on_no_process_and_on_nothing_said_before():
    # some voices breathe at random, with a seed from the clock
    voices = [f"en-us+{name}" for name in VARIANTS]
    said = []
    for order in (voices, voices[::-1]):
        with Espeak() as espeak:
            said.append({voice: espeak.speak("one two", voice, 150, 50, 50, 0).tobytes() for voice in order})
    assert said[0] == said[1]


def test_interrupts_are_left_to_the_caller():
    with Espeak() as espeak:
        assert os.getsid(espeak.process.pid) != os.getsid(0)
    assert espeak.process.returncode == 0


def test_what_an_older_version_began_is_not_gone_on_with(corpus, tmp_path, capsys):
    """It knew fewer settings, and may have other words in the files that are there; a whole corpus is left alone."""
    state = json.loads((corpus / "settings.json").read_text())
    older = {key: value for key, value in state.items() if key not in ("voices", "vary", "speed", "conditions")}
    for complete, status in ((False, 1), (True, 0)):
        (tmp_path / "settings.json").write_text(json.dumps({**older, "complete": complete}))
        assert synthetic.main([str(tmp_path), *SMALL]) == status
    assert "made with other settings" in capsys.readouterr().err and not list(tmp_path.glob("*/*"))
