"""Decoding with a model that reads letters off the amplitude of the audio, so that every output is known by hand."""

import dataclasses
import json
import os
import pickle
import sys

import fairseq
import hydra
import numpy as np
import pytest
import torch
from fairseq.dataclass.configs import CommonConfig
from fairseq.tasks.hubert_pretraining import HubertPretrainingTask
from omegaconf import OmegaConf

from distill_user_dir import infer
from distill_user_dir.decoding.wer import bootstrap_interval
from distill_user_dir.models.student_ctc import StudentCtc, StudentCtcConfig
from distill_user_dir.tasks.hubert_distillation import HubertDistillationConfig, HubertDistillationTask
from tests.commands import run
from tests.decoding.letter_model import save_checkpoint, waveform, write_split
from tests.helpers import RECIPES, USER_DIR

OURS = ("--config-dir", str(RECIPES / "decode"), "--config-name", "viterbi")
FAIRSEQ = os.path.dirname(fairseq.__file__)
FAIRSEQS = ("--config-dir", f"{FAIRSEQ}/examples/hubert/config/decode", "--config-name", "infer_viterbi")
# path, reference, what the audio says, (word errors, words, char errors, chars): by hand
UTTERANCES = [
    ("a/u01.wav", "THE HAT", "THE HAT", (0, 2, 0, 7)),
    ("a/u02.wav", "THE HAT", "THE HIT", (1, 2, 1, 7)),
    ("a/u03.wav", "A RED HEN", "A RED", (1, 3, 4, 9)),
    ("b/u04.wav", "NO", "NO NO NO NO NO NO NO NO", (7, 1, 21, 2)),
    ("b/u05.wav", "IT IS HOT IN HERE", "IT IS HOT IN HERE", (0, 5, 0, 17)),
    ("b/u06.wav", "SO", "", (1, 1, 2, 2)),
    ("b/u07.wav", "ALL", "ALL", (0, 1, 0, 3)),
    ("c/u08.wav", "TIN TINS", "TINTINS", (2, 2, 1, 8)),
    ("c/u09.wav", "RESTED", "RESTED", (0, 1, 0, 6)),
    ("c/u10.wav", "THE OLD SEA", "THE OLD SEA AS", (1, 3, 3, 11)),
    ("c/u11.wav", "DATA", "TATA", (1, 1, 1, 4)),
    ("d/u12.wav", "LIE", "LIE", (0, 1, 0, 3)),
    ("d/u13.wav", "HE SAID SO IN AN HOTEL", "HE SAID SO IN AN HOTEL", (0, 6, 0, 22)),
]
WORD_ERRORS, WORDS, CHAR_ERRORS, CHARS = 14, 29, 33, 101


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_split(folder, "test", UTTERANCES)
    write_split(folder, "short", UTTERANCES[:3])
    save_checkpoint(folder / "letters.pt", {"_name": "letters_for_test"}, {"gain": torch.tensor(64.0)})
    return folder


@pytest.fixture
def decode(data, tmp_path, monkeypatch, capsys):
    """Runs the command line in this process: decode(*overrides) -> (results folder, what was printed last)."""

    def run(*overrides, config=OURS, results=tmp_path / "out"):
        given = [f"task.data={data}", f"common_eval.path={data}/letters.pt", "dataset.gen_subset=test"]
        given += [f"decoding.results_path={results}", "common.cpu=true", "dataset.num_workers=0"]
        keys = {override.split("=")[0].lstrip("+") for override in overrides}
        kept = [override for override in given if override.split("=")[0] not in keys]
        monkeypatch.setattr(sys, "argv", ["infer", *config, *kept, *overrides])
        infer.main()
        return results, capsys.readouterr().out.strip().split("\n")[-1]

    return run


def failure(decode, *overrides, **options):
    """The one line that a decode fails with."""
    with pytest.raises(SystemExit) as caught:
        decode(*overrides, **options)
    assert str(caught.value).startswith("error: ") and "\n" not in str(caught.value)
    return str(caught.value)


def check_results(results):
    rows = [(name[2:5], *map(str, counts), said, heard) for name, said, heard, counts in UTTERANCES]
    lines = (results / "utterances.tsv").read_text().split("\n")
    assert lines == ["id\tword_errors\twords\tchar_errors\tchars\tref\thyp", *map("\t".join, rows), ""]
    result = json.loads((results / "wer.json").read_text())
    assert (result["wer"], result["cer"]) == pytest.approx((100 * WORD_ERRORS / WORDS, 100 * CHAR_ERRORS / CHARS))
    assert result["utterances_scored"] == result["utterances"] == 13
    seconds = sum(len(waveform(heard)) for _, _, heard, _ in UTTERANCES) / 16000
    assert (result["audio_seconds"], result["rtf"]) == pytest.approx((seconds, result["decode_seconds"] / seconds))
    assert all(result[f"{key}_interval"][0] < result[key] < result[f"{key}_interval"][1] for key in ("wer", "cer"))
    return result


@pytest.mark.parametrize("batch", [["dataset.batch_size=1"], ["dataset.batch_size=8", "common.seed=7"], []])
def test_every_utterance_is_scored_and_the_same_in_any_batch(decode, batch):
    results, last = decode("dataset.required_batch_size_multiple=8", *batch)
    result = check_results(results)
    # drawn from the utterances in the manifest's order, whatever the order of decoding
    interval = bootstrap_interval(*zip(*(counts[:2] for _, _, _, counts in UTTERANCES)))
    assert result["wer_interval"] == [100 * bound for bound in interval]
    fairseqs = (results / "wer").read_text().split("\n")
    assert float(fairseqs[0].split(" ")[1]) == pytest.approx(100 * WORD_ERRORS / WORDS)
    assert fairseqs[1] == f"err / num_ref_words = {WORD_ERRORS} / {WORDS}"
    assert last.startswith("WER 48.28% [") and "CER 32.67% [" in last and last.endswith("  13 of 13 utterances")


@pytest.mark.parametrize("batch_size", [1, 8])
def test_fairseqs_own_task_and_recipe_do_not_crop(decode, data, tmp_path, batch_size):
    # as they stand they cut every batch to its shortest utterance
    overrides = [f"common_eval.results_path={tmp_path}/exp", f"dataset.batch_size={batch_size}"]
    decode(*overrides, "decoding.results_path=null", config=FAIRSEQS)
    check_results(tmp_path / "exp" / "viterbi")


def test_fairseqs_default_config(decode, data, tmp_path):
    # its user_dir exists nowhere; hydra 1.3 lets its `task: null` stand after task=hubert_distillation
    old = hydra.__version__.startswith("1.0")
    task = ["task=hubert_distillation"] if old else ["+task._name=hubert_distillation", f"+task.data={data}"]
    check_results(decode(*task, f"common_eval.results_path={tmp_path}/exp", config=())[0])


def test_hypotheses_and_references_carry_ids(decode):
    results, _ = decode()
    for name, column in (("ref", 1), ("hypo", 2)):
        words, units = ((results / f"{name}.{kind}").read_text().split("\n")[:-1] for kind in ("word", "units"))
        assert sorted(words) == sorted(f"{row[column]} (None-{row[0][2:5]})" for row in UTTERANCES)
        assert {unit.split("(")[1] for unit in units} == {f"None-{row[0][2:5]})" for row in UTTERANCES}


def test_relative_paths_count_from_the_folder_of_the_call(decode, data, tmp_path, monkeypatch):
    monkeypatch.chdir(data)
    decode("task.data=.", "common_eval.path=letters.pt", "decoding.results_path=out/relative")
    check_results(data / "out" / "relative")


def test_what_the_import_needed_is_gone():
    assert dataclasses.dataclass.__module__ == "dataclasses" and not hasattr(dataclasses.dataclass, "func")
    assert hydra.main.__module__ == "hydra.main" and CommonConfig.__hash__ is None
    assert FAIRSEQ not in sys.path


@pytest.mark.parametrize(
    "order, expected",
    [
        (lambda indices: indices[2:], "11 of 13 utterances scored; missing: 2 (u04, u13)"),
        (lambda indices: np.append(indices, indices[:2]), "13 of 13 utterances scored; more than once: 2 (u04, u13)"),
    ],
)
def test_what_was_decoded_is_counted(decode, monkeypatch, order, expected):
    results, _ = decode()
    monkeypatch.setattr(HubertPretrainingTask, "filter_indices_by_size", lambda self, indices, *a, **k: order(indices))
    assert expected in failure(decode)
    assert not any((results / name).exists() for name in ("wer", "wer.json", "utterances.tsv"))


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_a_pickle_that_would_run_code_is_refused(decode, tmp_path, protocol):
    bad, proof = tmp_path / "bad.pt", tmp_path / "code_ran"

    class RunsCode:
        def __reduce__(self):
            return open, (str(proof), "w")

    state = {"model": {}, "cfg": {"model": {"_name": "letters_for_test"}}, "extra_state": RunsCode()}
    torch.save(state, str(bad)) if protocol == "torch" else bad.write_bytes(pickle.dumps(state))
    assert str(bad) in failure(decode, f"common_eval.path={bad}")
    assert not proof.exists()


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (["common_eval.path=/none.pt"], "/none.pt: no such file"),
        (["common_eval.path='a.pt\\b.pt'"], "names 2 checkpoints"),
        (["dataset.gen_subset=dev"], "dev.tsv"),
        (["task.labels=[wrd]"], "test.wrd"),
        (["task._name=translation"], "hubert_distillation"),
        (["dataset.max_tokens=17000"], "dataset.max_tokens=17000"),
        (["common.user_dir=/none"], "/none"),
        (["decoding.type=kenlm"], "decoding."),
        # samples: u06 has 800, u07 and u12 3200, u04 and u13 18400
        (["+task.min_sample_size=3201"], "test.tsv: 10 of 13 utterances loaded; missing: 3 (u06, u07, u12)"),
        (["+task.max_keep_size=18399"], "test.tsv: 11 of 13 utterances loaded; missing: 2 (u04, u13)"),
    ],
)
def test_user_errors_are_one_line(decode, overrides, expected):
    assert expected in failure(decode, *overrides)


def test_devices_and_results_need_a_place(decode, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "common.cpu=true" in failure(decode, "common.cpu=false")
    monkeypatch.chdir(tmp_path)  # where hydra 1.0 makes a folder named None
    assert "results_path" in failure(decode, "decoding.results_path=null")


def test_transcripts_outside_the_dictionary_are_an_error(decode, data):
    write_split(data, "foreign", [("x.wav", "THE HAT", "THE HAT", ()), ("y.wav", "THE ZOO", "THE", ())])
    assert "1 of 2 transcripts (the first: y)" in failure(decode, "dataset.gen_subset=foreign")


def test_normalisation_must_be_that_of_the_training(decode, tmp_path):
    overrides = [f"common_eval.results_path={tmp_path}", "task.normalize=true"]
    assert "task.normalize=True" in failure(decode, *overrides, config=FAIRSEQS)


def test_user_dir_may_be_this_package_and_no_copy(decode, tmp_path):
    path = tmp_path / USER_DIR.name
    path.symlink_to(USER_DIR)
    assert decode(f"common.user_dir={path}", "dataset.gen_subset=short")[1].endswith("3 of 3 utterances")
    path.unlink()
    path.mkdir()
    assert "another copy" in failure(decode, f"common.user_dir={path}")


@pytest.fixture(scope="module")
def student(data, checkpoints):
    """A tiny HuBERT with an output layer, both random."""
    task = HubertDistillationTask(HubertDistillationConfig(data=str(data), labels=["ltr"], fine_tuning=True))
    config = OmegaConf.to_container(OmegaConf.structured(StudentCtcConfig), enum_to_str=True)
    config = {key: value for key, value in config.items() if "${" not in str(value)}  # a whole config's parts
    config = OmegaConf.create(dict(config, _name="student_ctc", w2v_path=checkpoints("tiny")))
    model = StudentCtc.build_model(config, task)
    torch.nn.init.normal_(model.w2v_encoder.proj.weight)  # as it is, it would say hardly more than one letter
    save_checkpoint(data / "student.pt", OmegaConf.to_container(config), model.state_dict())
    return data / "student.pt"


def test_a_model_is_the_same_in_any_batch(decode, student, tmp_path):
    tables = []
    for size in (1, 8):
        results, _ = decode(f"common_eval.path={student}", f"dataset.batch_size={size}", results=tmp_path / str(size))
        tables.append((results / "utterances.tsv").read_text().split("\n")[1:-1])
    assert tables[0] == tables[1] and len(tables[0]) == 13
    assert len({line.split("\t")[6] for line in tables[0]}) > 6  # different hypotheses


def test_another_process_leaves_nothing_but_results(data, student, tmp_path):
    given = [f"task.data={data}", f"common_eval.path={student}", f"common.user_dir={USER_DIR}", "common.cpu=true"]
    given += ["dataset.gen_subset=short", "decoding.results_path=out"]
    assert "  3 of 3 utterances" in run([sys.executable, "-m", "distill_user_dir.infer", *OURS, *given], tmp_path)
    assert os.listdir(str(tmp_path)) == ["out"]
