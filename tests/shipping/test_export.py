"""Exported folders: the checkpoint's numbers at any size, and words where nothing of this project is installed."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from distill_user_dir import export, transcribe
from distill_user_dir.data.manifest import read_manifest
from distill_user_dir.modules.padding import normalise_audio
from distill_user_dir.shipping import int8, onnx_folder, sherpa_folder
from distill_user_dir.shipping.checkpoint_model import CheckpointModel
from distill_user_dir.shipping.difference import said_by
from distill_user_dir.shipping.graph import made_for_export
from distill_user_dir.shipping.runner import OnnxModel
from distill_user_dir.student import load_student
from tests.helpers import noise

pytest.importorskip("onnxscript")
LENGTHS = [[16000, 12000], [400], [23456], [719, 400, 560], [5000, 48000, 1000, 30000, 48000]]


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
    ours, theirs = (model.outputs(audio) for model in (CheckpointModel(fine_tuned), OnnxModel(exported)))
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
    model = transcribe.open_model(fine_tuned)
    assert [word.word for word in transcribe.words(model, arguments[0], 5)] == json.loads(lines[1])["text"].split()
    words = [[part for part in line.split('"') if part.isupper()] for line in lines]
    assert words[0] == words[1] and len(words[0]) > 1


def test_int8_is_smaller_and_alike(fine_tuned, exported, tmp_path, corpus):
    manifest = str(corpus / "valid.tsv")
    difference = export.export(fine_tuned, str(tmp_path / "int8"), small=True, check=manifest)
    assert difference.recordings == len(read_manifest(manifest).names) and not difference.lengths
    assert 1e-4 < difference.largest and difference.frames < 0.2
    sizes = [len(open(f"{folder}/model.onnx", "rb").read()) for folder in (tmp_path / "int8", exported)]
    assert sizes[0] < 0.9 * sizes[1]  # of a tiny student most is the graph


def test_int8_is_of_weights_alone(fine_tuned):
    """Tables are no weights: of Fbank, and of the positional convolution's Fourier transforms."""
    import onnx

    student = load_student(fine_tuned, folded=False)
    plain = onnx_folder.to_onnx(onnx_folder.Graph(student))
    normalised = {n.input[0] for n in plain.graph.node if n.op_type == "LayerNormalization"}
    makers = {node.op_type for node in plain.graph.node if node.output[0] in normalised}
    assert "Sum" in makers and "Add" not in makers
    assert sum(node.op_type == "MultiHeadAttention" for node in plain.graph.node) == len(student.encoder.encoder.layers)
    model = int8.quantised(plain)
    types = {one.name: onnx.TensorProto.DataType.Name(one.data_type) for one in model.graph.initializer}
    small = {name for name, kind in types.items() if kind in ("INT8", "UINT8") and name.endswith("_quantized")}
    assert len(small) > 5 * len(student.encoder.encoder.layers)
    assert not [name for name in small if ".fbank." in name or ".pos_conv." in name]
    half = [name for name, kind in types.items() if kind == "FLOAT16"]
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(half) >= len(convolutions) > 0


def test_a_front_end_without_fbank_is_made_for_export(fine_tuned):
    student = load_student(fine_tuned, folded=False)
    student.encoder.feature_extractor = torch.nn.Identity()
    assert made_for_export(student) is student and hasattr(student.encoder.encoder.layers[0].self_attn, "exported")


def tone_after_silence():
    seconds = np.arange(16000) / 16000
    return (10 * np.sin(3000 * seconds) * (seconds > 0.5)).astype(np.float32)


def test_calibrated_int8_hears_no_neighbour(fine_tuned, tmp_path, corpus, capsys):
    """Its scales are those of the recordings that it was calibrated on, whatever else is in the batch."""
    manifest, folder = str(corpus / "valid.tsv"), str(tmp_path / "int8")
    difference = export.export(fine_tuned, folder, calibrate=manifest, check=manifest)
    assert 1e-4 < difference.largest and difference.frames < 0.2 and not difference.lengths
    model, quiet, loud = OnnxModel(folder), noise(16000).numpy() / 10, tone_after_silence()
    (alone,), beside = model.outputs([quiet]), model.outputs([quiet, loud])
    np.testing.assert_allclose(beside[0], alone, atol=1e-4)
    export.export(fine_tuned, str(tmp_path / "dynamic"), small=True)
    dynamic = OnnxModel(str(tmp_path / "dynamic"))
    assert float(np.abs(dynamic.outputs([quiet, loud])[0] - dynamic.outputs([quiet])[0]).max()) > 1e-3


def test_what_cannot_be_exported_leaves_nothing(fine_tuned, exported, distilled, corpus, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "folder"
    assert export.main([fine_tuned, str(folder), "--format", "sherpa", "--calibrate", str(corpus / "valid.tsv")]) == 1
    assert "not for --format sherpa" in capsys.readouterr().err
    assert export.main([distilled, str(folder), "--format", "sherpa"]) == 1
    assert "not fine-tuned" in capsys.readouterr().err
    assert export.main([fine_tuned, exported]) == 1 and "there already" in capsys.readouterr().err
    to_onnx = onnx_folder.to_onnx

    def other(graph):
        graph.student.proj.weight.data[5] *= 1.1
        return to_onnx(graph)

    monkeypatch.setattr(onnx_folder, "to_onnx", other)
    assert export.main([fine_tuned, str(folder)]) == 1 and "is another model" in capsys.readouterr().err

    def broken(graph):
        graph.student.proj.bias.data[5] = float("nan")
        return to_onnx(graph)

    monkeypatch.setattr(onnx_folder, "to_onnx", broken)
    for option in ([], ["--int8"], ["--calibrate", str(corpus / "valid.tsv")]):
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


def test_sherpa_writes_what_the_model_says(fine_tuned, tmp_path, corpus):
    model, folder = CheckpointModel(fine_tuned), str(tmp_path / "sherpa")
    difference = export.export(fine_tuned, folder, "sherpa", check=str(corpus / "valid.tsv"))
    sherpa = sherpa_folder.SherpaModel(folder, model)
    audio = [(noise(size, size) * 0.05).numpy() for size in (400, 719, 23456, 30000)]
    log_probs = sherpa.outputs(audio)
    assert [sherpa.said(one) for one in audio] == said_by(model, audio, log_probs)
    assert len(" ".join(sherpa.said(audio[-1]))) > 20
    assert [one.shape for one in log_probs] == [one.shape for one in model.outputs(audio)]
    assert difference.recordings > 4 and not difference.lengths
    if sherpa_folder.keeps_loudness(model):
        assert difference.largest < 1e-3 and not difference.words and not difference.frames
    else:
        assert difference.largest < 1 and difference.frames < 0.1


def test_sherpas_audio_is_that_of_a_student_that_normalises(fine_tuned):
    student = load_student(fine_tuned, folded=False)
    if student.encoder.has_cnn:
        student.encoder.normalize = True
        audio = noise(20000, 1)[None] * 0.05
        with torch.no_grad():
            expected = student(audio).log_probs
            found = sherpa_folder.WaveformGraph(student).eval()(normalise_audio(audio, None))
        assert float((found - expected).abs().max()) < 1e-4


def test_sherpa_features_are_masked_by_their_lengths(fine_tuned, tmp_path):
    model, folder = CheckpointModel(fine_tuned), str(tmp_path / "sherpa")
    if model.student.encoder.has_cnn:
        return  # one recording at a time
    export.export(fine_tuned, folder, "sherpa")
    sherpa = sherpa_folder.SherpaModel(folder, model)
    audio = [(noise(size, size) * 0.05).numpy() for size in (400, 9000, 23456)]
    features = [sherpa.fbank(torch.from_numpy(one)[None])[0] for one in audio]
    lengths = np.array([len(one) for one in features])
    batch = torch.nn.utils.rnn.pad_sequence(features, batch_first=True, padding_value=-23.03).numpy()
    found, frames = sherpa.session.run(None, {"features": batch, "lengths": lengths})
    for one, count, alone in zip(found, frames, model.outputs(audio)):
        assert count == len(alone) and float(np.abs(one[:count] - alone).max()) < 1e-3


def test_what_sherpa_cannot_hold_is_refused(fine_tuned, tmp_path):
    symbols = CheckpointModel(fine_tuned).symbols
    assert sherpa_folder.tokens("a.pt", symbols, "letter")[0] == "<blk> 0"
    with pytest.raises(ValueError, match="a.pt: its unit 2 is 'A B'.*--format onnx"):
        sherpa_folder.tokens("a.pt", ["", "|", "A B"], "letter")
    student = CheckpointModel(fine_tuned).student
    if not student.encoder.has_cnn:
        student.encoder.feature_extractor.fbank.options["low_freq"] = 0.0
        with pytest.raises(ValueError, match="a.pt: its Fbank has low_freq=0.0, sherpa's 20.0"):
            sherpa_folder.check_features("a.pt", student)
