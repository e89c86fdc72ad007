import json
import time

import pytest
import torch

from distill_user_dir import profile
from distill_user_dir.measure import interleaved, peak_memory
from distill_user_dir.profiling.figures import multiply_accumulates
from distill_user_dir.profiling.rows import BASE, load_row, parameters
from tests.helpers import RECIPES

STUDENTS = RECIPES / "distill" / "student"
# Wang et al., table 1, and what the files say of themselves; HuBERT Base has 94.70 M with its clusters.
MILLIONS = {"deep_thin": 22.94, "shallow_wide": 23.49, "six_640": 23.09, "three_768": 22.91, "twelve_384": 23.33}
MILLIONS.update({"tiny": 6.08, "demo": 0.58, "demo_deep_thin": 1.42, "demo_shallow_wide": 1.41})


@pytest.mark.parametrize("name", MILLIONS)
def test_parameters_without_heads(name):
    row = load_row(str(STUDENTS / f"{name}.yaml"), 768)
    assert sum(parameters(row).values()) / 1e6 == pytest.approx(MILLIONS[name], abs=0.005)
    assert f"{MILLIONS[name]:.2f} M" in (STUDENTS / f"{name}.yaml").read_text() or name == "demo"


def test_an_fbank_students_parameters():
    row = load_row(f"{STUDENTS / 'deep_thin.yaml'}+{RECIPES / 'distill' / 'frontend' / 'fbank.yaml'}", 768)
    assert row.name == "deep_thin+fbank"
    assert sum(parameters(row).values()) / 1e6 == pytest.approx(19.11, abs=0.005)  # Wang et al.
    assert parameters(row)["front-end"] == 80 * 960 * 5 + 960 + 480 * 480 + 480 + 480


def test_every_structure_is_there():
    assert {path.stem for path in STUDENTS.glob("*.yaml")} == set(MILLIONS)


def test_hubert_base_by_hand():
    row = load_row(BASE, 768)
    cnn = 512 * 10 + 4 * 512 * 512 * 3 + 2 * 512 * 512 * 2 + 2 * 512
    layer = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    expected = {
        "front-end": cnn + 2 * 512 + 512 * 768 + 768 + 768,
        "positional convolution": 768 * 768 // 16 * 128 + 128 + 768,
        "Transformer": 12 * layer + 2 * 768,
        "CTC layer": 0,
    }
    assert parameters(row) == expected
    assert (sum(expected.values()) + row.heads) / 1e6 == pytest.approx(94.70, abs=0.005)


def macs_by_hand(samples, cnn, layers, width, ffn, pos, groups):
    total, channels, time_steps = 0, 1, samples
    for out, kernel, stride in cnn:
        time_steps = (time_steps - kernel) // stride + 1
        total += time_steps * out * channels * kernel
        channels = out
    total += time_steps * channels * width
    total += (time_steps + 1) * width * (width // groups) * pos  # an even kernel gives one frame more, which is cut off
    return total + layers * (time_steps * (4 * width**2 + 2 * width * ffn) + 2 * time_steps**2 * width)


def test_multiply_accumulates_by_hand():
    row = load_row(str(STUDENTS / "demo.yaml"), 192)
    cnn = [(32, 10, 5)] + [(32, 3, 2)] + [(64, 3, 2)] * 3 + [(64, 2, 2)] * 2
    assert multiply_accumulates(row, 16000) == macs_by_hand(16000, cnn, 6, 96, 192, 64, 8)


def test_multiply_accumulates_of_deep_thin_by_hand():
    row = load_row(str(STUDENTS / "deep_thin.yaml"), 768)
    cnn = [(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2
    assert multiply_accumulates(row, 8000) == macs_by_hand(8000, cnn, 12, 480, 480, 128, 16)


@pytest.mark.slow
def test_table_json_and_plot_of_structures_and_checkpoints(tmp_path, capsys, checkpoints, distilled):
    demo, hubert = str(STUDENTS / "demo.yaml"), checkpoints("tiny")
    options = ["--seconds", "0.1", "0.2", "--rounds", "1", "--json", str(tmp_path / "x.json")]
    assert profile.main([demo, hubert, distilled, *options, "--plot", str(tmp_path / "x.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = json.loads((tmp_path / "x.json").read_text())
    assert len(lines) == 5 and [row["name"] for row in found][:2] == ["HuBERT Base", "demo"]
    assert all(line.startswith(row["name"]) for line, row in zip(lines[1:], found))
    state = torch.load(distilled, weights_only=True)["model"]
    heads = sum(value.numel() for key, value in state.items() if key.startswith("heads."))
    assert found[3]["heads"] == heads
    assert found[3]["parameters"] == sum(value.numel() for value in state.values()) - heads
    for row in found:
        assert sum(row["parts"].values()) == row["parameters"]
        assert [(run["seconds"], run["batch"]) for run in row["runs"]] == [(0.1, 1), (0.2, 1)]
        assert all(run["rtf"] > 0 and run["memory"] > 0 for run in row["runs"])
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "name, text, told",
    [
        ("none.yaml", None, "No such file"),
        ("none.pt", None, "no such file"),
        ("model.bin", "", "neither"),
        ("empty.yaml", "", "no keys"),
        ("unknown.yaml", "encoder_layer: 3", "encoder_layer"),
        ("wrong.yaml", "encoder_layers: many", "many"),
        ("no_map.yaml", "encoder_layers: 3", "layer_map"),
    ],
)
def test_bad_rows_are_one_line(tmp_path, capsys, name, text, told):
    if text is not None:
        (tmp_path / name).write_text(text)
    assert profile.main([str(tmp_path / name)]) == 1
    error = capsys.readouterr().err
    assert told in error and error.startswith("error: ") and error.count("\n") == 1


def test_interleaved_takes_turns():
    order = []
    taken = interleaved({"a": lambda: order.append("a"), "b": lambda: (order.append("b"), time.sleep(0.01))}, 2)
    assert order == ["a", "b"] * 3 and taken["b"] >= 0.01


def allocating(megabytes, kept):
    """For a process of its own: keeps something, and takes and frees `megabytes` when called."""
    held = torch.ones(kept * 250000)
    return lambda: float(torch.ones(megabytes * 250000)[0] + held[0])


def test_peak_memory_is_what_a_call_takes():
    kept, peak = peak_memory(allocating, 80, 40)
    assert 40e6 <= kept < 60e6 and 80e6 <= peak < 100e6
