"""Folders that transformers loads as its own models."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from distill_user_dir import export
from distill_user_dir.data.manifest import read_manifest
from distill_user_dir.shipping import hf_folder, hf_model
from distill_user_dir.shipping.checkpoint_model import CheckpointModel
from distill_user_dir.student import load_student
from tests.helpers import noise, write_hubert

pytest.importorskip("onnxscript")  # where that is, transformers has to be
PIPELINE = """
import sys
sys.modules["torchaudio"] = None  # fairseq's does not import beside torch's file for CPUs
import soundfile
from transformers import pipeline
options = {"trust_remote_code": True} if sys.argv[1] == "fbank" else {}
recogniser = pipeline("automatic-speech-recognition", sys.argv[2], **options)
samples, rate = soundfile.read(sys.argv[3])
print(recogniser({"raw": samples, "sampling_rate": rate})["text"])
assert not {"fairseq", "distill_user_dir"} & set(sys.modules)
"""


def test_transformers_gives_the_checkpoints_numbers_and_words(fine_tuned, tmp_path, corpus):
    folder, manifest = tmp_path / "hf", str(corpus / "valid.tsv")
    difference = export.export(fine_tuned, str(folder), "hf", check=manifest)
    assert difference.recordings == len(read_manifest(manifest).names) and difference.largest < 1e-4
    assert not difference.lengths and not difference.frames and not difference.words
    model = CheckpointModel(fine_tuned)
    with_fbank = not model.student.encoder.has_cnn
    assert (folder / "hf_student.py").exists() == with_fbank
    wave = str(tmp_path / "a.wav")
    soundfile.write(wave, (noise(40000) * 0.05).numpy(), 16000, "FLOAT")
    command = [sys.executable, "-c", PIPELINE, "fbank" if with_fbank else "cnn", str(folder), wave]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=str(tmp_path)).stdout.strip()
    assert said.split() == model.student.transcribe(noise(40000)[None] * 0.05)[0].split() and len(said) > 20


def test_a_batch_of_fbank_students_is_as_each_alone(fine_tuned, tmp_path):
    model = CheckpointModel(fine_tuned)
    if model.student.encoder.has_cnn:
        return  # transformers' group norm is over the padding too, and the folder's README says so
    export.export(fine_tuned, str(tmp_path / "hf"), "hf")
    theirs = hf_model.HfModel(str(tmp_path / "hf"), model)
    audio = [(noise(size, size) * 0.05).numpy() for size in (400, 9000, 23456)]
    inputs = theirs.extractor(audio, sampling_rate=16000, return_tensors="pt", padding=True)
    with torch.inference_mode():
        found = theirs.model(**inputs).logits.log_softmax(-1).numpy()
    for one, alone in zip(found, model.outputs(audio)):
        assert float(np.abs(one[: len(alone)] - alone).max()) < 1e-4


@pytest.mark.parametrize("size, normalize", [("tiny", False), ("tiny_large", True)])
def test_features_of_a_hubert(size, normalize, tmp_path):
    path = write_hubert(tmp_path / "hubert.pt", size, normalize=normalize)
    for form in ("hf", "onnx"):
        difference = export.export(path, str(tmp_path / form), form)
        assert difference.largest < 1e-4 and difference.recordings and not difference.lengths
        assert "Features of speech" in (tmp_path / form / "README.md").read_text()


def test_what_transformers_cannot_hold_is_refused(fine_tuned, tmp_path, capsys):
    assert export.main([fine_tuned, str(tmp_path / "hf"), "--format", "hf", "--int8"]) == 1
    assert "--int8" in capsys.readouterr().err
    student = load_student(fine_tuned)
    student.units = "sentencepiece"
    with pytest.raises(ValueError, match="a.pt: units of sentencepiece"):
        hf_folder.write_processor("a.pt", str(tmp_path), student)
    student.units, student.symbols = "letter", ["", "", "", "", "|", "A", "A"]
    with pytest.raises(ValueError, match="a.pt: its dictionary has a unit twice"):
        hf_folder.write_processor("a.pt", str(tmp_path), student)
