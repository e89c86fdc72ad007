import io

import pytest
from fairseq.data.dictionary import Dictionary

from manifests import letters, tsv


@pytest.fixture
def manifest(libri, tmp_path):
    tsv.make_manifest(str(libri), str(tmp_path / "data"), progress=False)
    return tmp_path / "data" / "train.tsv"


def test_same_as_fairseq(manifest, tmp_path, example):
    theirs = tmp_path / "theirs"
    example("wav2vec/libri_labels.py", manifest, "--output-dir", theirs, "--output-name", "train")
    assert letters.main([str(manifest)]) == 0
    for ending in ("ltr", "wrd"):
        assert (manifest.parent / f"train.{ending}").read_bytes() == (theirs / f"train.{ending}").read_bytes()


def test_form(manifest):
    letters.main([str(manifest)])
    assert (manifest.parent / "train.ltr").read_text().splitlines()[0] == "T H E | C A T |"
    assert (manifest.parent / "train.wrd").read_text().splitlines()[1] == "IT'S A DOG AND A CAT"


def test_english_letters_have_librispeechs_dictionary(manifest):
    """As wav2vec 2.0 publishes it, 28 symbols: an apostrophe that only a test set has is one of them."""
    letters.main([str(manifest)])
    symbols = [line.split()[0] for line in (manifest.parent / "dict.ltr.txt").read_text().splitlines()]
    assert "".join(symbols) == "|ETAOINHSRDLUMWCFGYPBVK'XJQZ"
    dictionary = Dictionary.load(str(manifest.parent / "dict.ltr.txt"))
    assert (dictionary.count[4], dictionary.count[-1], len(dictionary)) == (94802, 213, 32)


def test_dictionary_of_other_letters_is_fairseqs(manifest, libri):
    for path in libri.rglob("*.trans.txt"):
        path.write_text(path.read_text().replace("CAT", "CÄT"))
    letters.main([str(manifest)])
    theirs = Dictionary()
    for line in (manifest.parent / "train.ltr").read_text().splitlines():
        for symbol in line.split():
            theirs.add_symbol(symbol)
    theirs.finalize(padding_factor=1)
    text = io.StringIO()
    theirs.save(text)
    ours = manifest.parent / "dict.ltr.txt"
    assert ours.read_text() == text.getvalue()
    assert Dictionary.load(str(ours)).symbols == theirs.symbols


def test_one_file_of_transcripts(libri, manifest, tmp_path):
    letters.main([str(manifest)])
    expected = (manifest.parent / "train.ltr").read_bytes()
    everything = sorted(line for path in libri.rglob("*.trans.txt") for line in path.read_text().splitlines())
    one = tmp_path / "one.txt"
    one.write_text("".join(f"{line.lower()}\n" for line in reversed(everything)))
    out = tmp_path / "out"
    options = ["--transcripts", str(one), "--upper", "--output-dir", str(out), "--output-name", "other"]
    assert letters.main([str(manifest), *options]) == 0
    assert (out / "other.ltr").read_bytes() == expected


def refused(capsys, manifest, *options):
    before = sorted(path.name for path in manifest.parent.iterdir())
    assert letters.main([str(manifest), *map(str, options)]) == 1
    assert sorted(path.name for path in manifest.parent.iterdir()) == before
    return capsys.readouterr().err


def transcripts_of(libri):
    return sorted(libri.rglob("*.trans.txt"))


def test_missing_transcripts_are_all_named(libri, manifest, capsys):
    first, last = transcripts_of(libri)[0], transcripts_of(libri)[-1]
    first.unlink()
    last.write_text(last.read_text().splitlines()[0] + "\n")
    told = refused(capsys, manifest)
    assert all(f"{manifest}:{line}: " in told for line in (2, 3, 7)) and f"{manifest}:4: " not in told
    assert "3 errors, nothing written" in told


def test_empty_transcript(libri, manifest, capsys):
    path = transcripts_of(libri)[0]
    path.write_text(path.read_text().replace(" THE CAT", " "))
    assert f"{path}:1: the transcript of 19-7-0000 is empty" in refused(capsys, manifest)


def test_transcript_with_the_word_mark(libri, manifest, capsys):
    path = transcripts_of(libri)[0]
    path.write_text(path.read_text().replace("DOG AND", "DOG | AND"))
    assert f"{path}:2: " in refused(capsys, manifest)


def test_an_id_twice_in_a_file(libri, manifest, capsys):
    path = transcripts_of(libri)[0]
    path.write_text(path.read_text() + "19-7-0000 THE CAP\n")
    told = refused(capsys, manifest)
    assert f"{path}:3: 19-7-0000" in told and f"{path}:1 too" in told


def test_an_id_twice_in_the_files_of_a_folder(libri, manifest, capsys):
    path = transcripts_of(libri)[0]
    other = path.with_name("other.trans.txt")
    other.write_text("\n19-7-0001 NO\n")
    told = refused(capsys, manifest)
    assert f"{other}:2: 19-7-0001" in told or f"{path}:2: 19-7-0001" in told


def test_two_files_of_one_id(tmp_path, audio, capsys):
    for folder in ("a", "b"):
        audio(str(tmp_path / "audio" / folder / "same.wav"))
    tsv.make_manifest(str(tmp_path / "audio"), str(tmp_path / "data"), progress=False)
    (tmp_path / "text").write_text("same YES\n")
    manifest = tmp_path / "data" / "train.tsv"
    told = refused(capsys, manifest, "--transcripts", tmp_path / "text")
    assert f"{manifest}:3: b/same.wav" in told and f"{manifest}:2" in told


def test_a_given_dictionary_is_kept_and_checked(manifest, tmp_path, capsys):
    letters.main([str(manifest)])
    own = manifest.parent / "dict.ltr.txt"
    larger = tmp_path / "larger.txt"
    larger.write_text(own.read_text() + "Ö 1\n")
    out = tmp_path / "out"
    assert letters.main([str(manifest), "--dict", str(larger), "--output-dir", str(out)]) == 0
    assert (out / "dict.ltr.txt").read_bytes() == larger.read_bytes()
    smaller = tmp_path / "smaller.txt"
    smaller.write_text("".join(f"{line}\n" for line in own.read_text().splitlines() if line[0] not in "GW"))
    told = refused(capsys, manifest, "--dict", smaller)
    assert "trans.txt:2: 'G' not in" in told and str(smaller) in told and "1 errors" in told


def test_a_dictionary_is_never_replaced(manifest, capsys):
    own = manifest.parent / "dict.ltr.txt"
    own.write_text("| 1\nZ 1\n")
    assert f"{own}: " in refused(capsys, manifest)
    assert own.read_text() == "| 1\nZ 1\n"


def test_again_is_the_same(manifest):
    assert letters.main([str(manifest)]) == 0
    before = {path.name: path.read_bytes() for path in manifest.parent.iterdir()}
    assert letters.main([str(manifest)]) == 0
    assert before == {path.name: path.read_bytes() for path in manifest.parent.iterdir()}


def test_no_such_transcripts(manifest, capsys):
    assert "none.txt" in refused(capsys, manifest, "--transcripts", "none.txt")
