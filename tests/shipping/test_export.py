"""Exported folders: the checkpoint's numbers at any size, and words where nothing of this project is installed."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from distill_user_dir import export, transcribe
from distill_user_dir.checkpoints.loading import load
from distill_user_dir.data.manifest import read_manifest
from distill_user_dir.shipping import onnx_folder
from distill_user_dir.shipping.checkpoint_model import CheckpointModel
from distill_user_dir.shipping.runner import OnnxModel
from tests.helpers import distill_overrides, finetune_overrides, noise, train

pytest.importorskip("onnxscript")
LENGTHS = [[16000, 12000], [400], [23456], [719, 400, 560], [5000, 48000, 1000, 30000, 48000]]


@pytest.fixture(scope="module", params=["waveform", "fbank"])
def fine_tuned(request, tmp_path_factory, checkpoints, distilled, corpus):
    """A fine-tuned student that is sure of its letters, which change from frame to frame."""
    folder, start = tmp_path_factory.mktemp(request.param), distilled
    one = {"optimization.max_update": 1}
    if request.param == "fbank":
        options = {"frontend": "fbank", "model.fbank_stats": "null", "model.fbank_norm": "utterance", **one}
        options["criterion.frontend_updates"] = 0
        train("distill", "laptop", distill_overrides(checkpoints("tiny"), corpus, folder / "student", **options))
        start = str(folder / "student" / "checkpoint_last.pt")
    train("finetune", "laptop", finetune_overrides(start, corpus, folder / "ctc", **one))
    path = folder / "ctc" / "checkpoint_last.pt"
    content = load(str(path))
    content["model"]["w2v_encoder.proj.weight"] *= 5
    torch.save(content, str(path))
    return str(path)


@pytest.fixture(scope="module")
def exported(fine_tuned, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("exported") / "student")
    export.export(fine_tuned, folder)
    return folder


@pytest.mark.parametrize("lengths", LENGTHS)
def test_an_export_gives_the_checkpoints_numbers_at_any_size(fine_tuned, exported, lengths):
    audio = [
        noise(length, seed).numpy() * np.abs(np.sin(np.arange(length) / 2e3)) for seed, length in enumerate(lengths)
    ]
    audio = [one.astype(np.float32) for one in audio]
    ours, theirs = (model.log_probs(audio) for model in (CheckpointModel(fine_tuned), OnnxModel(exported)))
    for one, other in zip(ours, theirs):
        assert one.shape == other.shape and float(np.abs(one - other).max()) < 1e-3
    assert len(np.unique(np.concatenate(ours).argmax(1))) > 1 or max(lengths) < 5000


def test_the_folder_needs_nothing_of_ours(fine_tuned, exported, tmp_path, capsys):
    samples = np.repeat(noise(32000).numpy(), 2)
    soundfile.write(str(tmp_path / "a.wav"), np.stack([samples, samples], 1) / 4, 32000, "FLOAT")
    program = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: assert not {'torch', 'fairseq', 'distill_user_dir'} & set(sys.modules)"
    )
    arguments = [str(tmp_path / "a.wav"), "--output", "json"]
    command = [sys.executable, "-I", "-c", program, f"{exported}/transcribe.py", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    for model in (exported, fine_tuned):
        assert transcribe.main([model, *arguments, "--longest", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] + "\n" == done.stdout
    words = [[part for part in line.split('"') if part.isupper()] for line in lines]
    assert words[0] == words[1] and len(words[0]) > 1


def test_int8_is_smaller_and_alike(fine_tuned, exported, tmp_path, corpus):
    manifest = str(corpus / "valid.tsv")
    difference = export.export(fine_tuned, str(tmp_path / "int8"), int8=True, check=manifest)
    assert difference.recordings == len(read_manifest(manifest).names) and not difference.lengths
    assert 1e-4 < difference.log_probs and difference.frames < 0.2
    sizes = [len(open(f"{folder}/model.onnx", "rb").read()) for folder in (tmp_path / "int8", exported)]
    assert sizes[0] < 0.9 * sizes[1]  # of a tiny student most is the graph


def test_what_cannot_be_exported_leaves_nothing(fine_tuned, exported, distilled, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "folder"
    assert export.main([distilled, str(folder)]) == 1 and "not fine-tuned" in capsys.readouterr().err
    assert export.main([fine_tuned, exported]) == 1 and "there already" in capsys.readouterr().err
    to_onnx = onnx_folder.to_onnx

    def other(student):
        student.proj.weight.data[5] *= 1.1
        return to_onnx(student)

    monkeypatch.setattr(onnx_folder, "to_onnx", other)
    assert export.main([fine_tuned, str(folder)]) == 1 and "is another model" in capsys.readouterr().err

    def broken(student):
        student.proj.bias.data[5] = float("nan")
        return to_onnx(student)

    monkeypatch.setattr(onnx_folder, "to_onnx", broken)
    for option in ([], ["--int8"]):
        assert export.main([fine_tuned, str(folder), *option]) == 1 and "is another model" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_kind_is_refused(exported, tmp_path):
    import onnx

    with pytest.raises(ValueError, match="no model.onnx"):
        OnnxModel(str(tmp_path))
    (tmp_path / "model.onnx").write_bytes(b"something else")
    with pytest.raises(ValueError, match="no model that onnxruntime reads"):
        OnnxModel(str(tmp_path))
    model = onnx.load(f"{exported}/model.onnx")
    for entry in model.metadata_props:
        if entry.key == "format":
            entry.value = "distill_user_dir 0"
    onnx.save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(ValueError, match="another version"):
        OnnxModel(str(tmp_path))
