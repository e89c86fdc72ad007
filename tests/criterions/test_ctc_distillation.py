import math

import pytest
import torch
from fairseq import checkpoint_utils, tasks
from fairseq.criterions.ctc import CtcCriterion
from fairseq.data.dictionary import Dictionary
from fairseq.logging import metrics
from fairseq.trainer import Trainer
from omegaconf import OmegaConf

from distill_user_dir.checkpoints.loading import load
from distill_user_dir.criterions.ctc_distillation import CtcDistillationCriterion
from distill_user_dir.data.dataset import NOTHING, PSEUDO, TRANSCRIPT
from distill_user_dir.losses.regression import regression
from distill_user_dir.modules.padding import Chosen
from distill_user_dir.student import load_student
from tests.commands import listed
from tests.helpers import batch, finetune_overrides, recipe, train

ALL = {"criterion.frame_weight": 2.0, "criterion.pseudo_weight": 0.5, "criterion.transcript_weight": 0.25}
PLAIN = {"model.activation_dropout": 0.0, "model.freeze_finetune_updates": 0}
LENGTHS, SOURCES = [16000, 24000, 11111, 8000], [TRANSCRIPT, NOTHING, PSEUDO, TRANSCRIPT]


@pytest.fixture(scope="module")
def teacher(checkpoints, corpus, tmp_path_factory):
    """A fine-tuned HuBERT that is not sure of anything, and hears letters."""
    folder = tmp_path_factory.mktemp("teacher")
    train("finetune", "laptop", finetune_overrides(checkpoints("tiny"), corpus, folder))
    state = load(str(folder / "checkpoint_last.pt"))
    torch.manual_seed(0)
    weight = state["model"]["w2v_encoder.proj.weight"]
    weight.copy_(torch.randn(weight.shape))
    torch.save(state, str(folder / "teacher.pt"))
    return str(folder / "teacher.pt")


def setup(start, teacher, data, **overrides):
    """cfg, task, model and criterion of a tiny fine-tuning, as fairseq's train builds them."""
    overrides = {**finetune_overrides(start, data, "/none"), **PLAIN, "task.teacher_path": teacher, **overrides}
    cfg = recipe("finetune", "laptop", *listed({"loss": "ctc_distillation", **overrides}))
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))
    task = tasks.setup_task(cfg.task)
    torch.manual_seed(4)
    model = task.build_model(cfg.model)
    torch.manual_seed(5)
    proj = model.w2v_encoder.proj.weight
    proj.data.copy_(torch.randn(proj.shape))
    return cfg, task, model, task.build_criterion(cfg.criterion)


@pytest.fixture
def built(distilled, teacher, corpus):
    return setup(distilled, teacher, corpus, **ALL)


def sample(rows):
    """Utterances of the four by their number."""
    audio, _, _ = batch(LENGTHS)
    lengths = [LENGTHS[row] for row in rows]
    source = torch.nn.utils.rnn.pad_sequence([audio[row] for row in rows], batch_first=True)
    padded = torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]
    units = [torch.tensor([4, 5, 5, 6][: 2 + row if SOURCES[row] != NOTHING else 0]).long() for row in rows]
    return {
        "id": torch.tensor(rows),
        "lengths": lengths,
        "sources": [SOURCES[row] for row in rows],
        "target": torch.nn.utils.rnn.pad_sequence(units, batch_first=True, padding_value=1),
        "target_lengths": torch.tensor([len(one) for one in units]),
        "ntokens": sum(len(one) for one in units),
        "net_input": {"source": source, "padding_mask": padded},
    }


def test_loss_by_hand(built):
    """Each term for one utterance, with the teacher as load_student gives it."""
    _, task, model, criterion = built
    criterion.cfg.temperature, criterion.cfg.blank_threshold, criterion.cfg.blank_weight = 3.0, 0.05, 0.125
    teacher = load_student(task.cfg.teacher_path, valid_statistics=True)
    for row, source in enumerate(SOURCES):
        given = sample([row])
        loss, frames, log = criterion(model.eval(), given)
        audio = given["net_input"]["source"]
        with torch.no_grad():
            theirs = teacher.proj(teacher.encoder.encode(audio).x)[0].double()
            ours = model.get_normalized_probs(model(**given["net_input"]), log_probs=False)[:, 0].double()
        p, q = ((logits / 3).softmax(-1) for logits in (theirs, ours.log()))
        each = 9 * (p * (p / q).log()).sum(-1)
        weights = torch.where(theirs.softmax(-1)[:, 0] > 0.05, 0.125, 1.0)
        assert 0 < (weights < 1).sum() < len(weights) == frames
        expected = {"frame": float((weights * each).sum()), "blank": 0.0, "letters": 0.0}
        for i, at in enumerate(theirs.argmax(-1).tolist()):
            expected["letters" if at else "blank"] += float(each[i])
        path = theirs.argmax(-1)
        path = torch.where(path < 4, 0, path).unique_consecutive()  # this teacher writes <pad>, too
        words = given["target"][0] if source == PSEUDO else path[path != 0]
        expected["pseudo"] = minus_log(ours, words)
        expected["transcript"] = minus_log(ours, given["target"][0]) if source == TRANSCRIPT else 0.0
        for name, value in expected.items():
            assert float(log[name]) == pytest.approx(value, rel=1e-4), name
        total = 2 * expected["frame"] + 0.5 * expected["pseudo"] + 0.25 * expected["transcript"]
        assert float(loss) == pytest.approx(total, rel=1e-4)


def minus_log(probs, units):
    """(T, V) -> -log p(units), by the forward recursion."""
    extended = [0] + [x for unit in units.tolist() for x in (unit, 0)]
    alpha = [probs[0, 0], probs[0, extended[1]]] + [torch.tensor(0.0)] * (len(extended) - 2)
    for t in range(1, len(probs)):
        before, alpha = alpha, []
        for i, unit in enumerate(extended):
            total = before[i] + (before[i - 1] if i > 0 else 0)
            skips = i > 1 and unit != 0 and unit != extended[i - 2]
            alpha.append((total + (before[i - 2] if skips else 0)) * probs[t, unit])
    return -math.log(float(alpha[-1] + alpha[-2]))


def test_padded_batch_is_its_utterances(built):
    _, _, model, criterion = built
    model.train()
    loss, frames, log = criterion(model, sample([0, 1, 2, 3]))
    alone = [criterion(model, sample([row])) for row in range(4)]
    assert frames == sum(one[1] for one in alone) == sum((length - 400) // 320 + 1 for length in LENGTHS)
    assert float(loss) == pytest.approx(sum(float(one[0]) for one in alone), rel=1e-5)
    for name in ("frame", "pseudo", "transcript", "blank", "letters", "labelled", "empty"):
        assert float(log[name]) == pytest.approx(sum(float(one[2][name]) for one in alone), rel=1e-4), name


def test_batches_without_transcripts_make_no_difference(distilled, teacher, corpus):
    """By fairseq's Trainer and SGD, whose update is the gradient."""
    sgd = {"optimizer._name": "sgd", "+optimizer.momentum": 0, "~optimizer.adam_betas": "'(0.9,0.98)'"}
    sgd.update({"~optimizer.adam_eps": "1e-08", "+optimizer.lr": "[1.0]", "optimization.lr": "[1.0]"})
    sgd.update({"lr_scheduler._name": "fixed", "optimization.clip_norm": 0})
    sgd.update({f"~lr_scheduler.{name}": value for name, value in {"warmup_steps": 150, "hold_steps": 750}.items()})
    sgd.update({"~lr_scheduler.decay_steps": 600, "~lr_scheduler.final_lr_scale": 0.05, "+lr_scheduler.lr": "[1.0]"})
    updates = []
    for rows in ([[0, 1, 2, 3]], [[0, 3], [1, 2]], [[1], [0, 3, 2]]):
        cfg, task, model, criterion = setup(distilled, teacher, corpus, **{**ALL, **sgd})
        cfg.optimization.update_freq = [len(rows)]
        made = Trainer(cfg, task, model, criterion)
        made.lr_step_update()
        before = [p.detach().clone() for p in model.parameters()]
        made.train_step([sample(one) for one in rows])
        updates.append([p.detach() - b for p, b in zip(model.parameters(), before)])
    largest = max(float(step.abs().max()) for step in updates[0])
    assert largest > 1e-4
    for other in updates[1:]:
        assert max(float((a - b).abs().max()) for a, b in zip(updates[0], other)) < 1e-4 * largest


def test_logs_add_up_and_validation_counts_words_as_fairseq_does(built):
    _, _, model, criterion = built
    logs = [criterion(model.eval(), sample(rows))[2] for rows in ([0, 3], [1, 2])]
    assert "w_total" in logs[0] and "w_total" not in logs[1]
    assert logs[0]["w_errors"] == CtcCriterion.forward(criterion, model, sample([0, 3]))[2]["w_errors"]
    with metrics.aggregate(new_root=True) as aggregate:
        CtcDistillationCriterion.reduce_metrics(logs)
    values, frames = aggregate.get_smoothed_values(), sum(log["ntokens"] for log in logs)
    assert values["loss"] == pytest.approx(sum(float(log["loss"]) for log in logs) / frames, abs=1e-3)
    total = 2 * values["frame"] + 0.5 * values["pseudo"] + 0.25 * values["transcript"]
    assert values["loss"] == pytest.approx(total, abs=2e-3)
    assert values["labelled"] == pytest.approx((49 + 24) / frames, abs=1e-3) and values["wer"] > 0


def permuted(teacher, folder):
    """The same teacher, whose dictionary has the letters in another order."""
    state = load(teacher)
    known, other = state["task_state"]["target_dictionary"], Dictionary()
    for symbol in known.symbols[:3:-1]:
        other.add_symbol(symbol)
    order = [known.indices[symbol] for symbol in other.symbols]
    for name in ("weight", "bias"):
        state["model"][f"w2v_encoder.proj.{name}"] = state["model"][f"w2v_encoder.proj.{name}"][order]
    state["task_state"]["target_dictionary"] = other
    torch.save(state, str(folder / "permuted.pt"))
    return state


def test_teacher_with_another_order_of_letters(distilled, teacher, corpus, tmp_path, built):
    state = permuted(teacher, tmp_path)
    _, task, model, criterion = setup(distilled, str(tmp_path / "permuted.pt"), corpus, **ALL)
    assert task.teacher.order.tolist() != list(range(len(task.target_dictionary)))
    ours, theirs = (one[3](one[2].eval(), sample([0, 1]))[0] for one in (built, (0, 0, model, criterion)))
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)
    dictionary = state["task_state"].pop("target_dictionary")
    torch.save(state, str(tmp_path / "none.pt"))
    with pytest.raises(ValueError, match="task.teacher_dict"):
        setup(distilled, str(tmp_path / "none.pt"), corpus, **ALL)
    dictionary.save(str(tmp_path / "dict.txt"))
    found = setup(distilled, str(tmp_path / "none.pt"), corpus, **{**ALL, "task.teacher_dict": tmp_path / "dict.txt"})
    assert float(found[3](found[2].eval(), sample([0, 1]))[0]) == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("dtype, bound", [(torch.bfloat16, 0.15), (torch.float16, 0.001)])
def test_half_precision(built, dtype, bound):
    """The losses of float32, within a share; in bfloat16 this teacher, which knows nothing, writes other words."""
    _, task, model, criterion = built
    model.eval()
    whole = criterion(model, sample([0, 1, 2, 3]))[2]
    model.to(dtype)
    loss, _, log = criterion(model, sample([0, 1, 2, 3]))
    assert task.teacher.proj.weight.dtype == dtype and loss.dtype == torch.float32
    assert torch.isfinite(loss)
    for name in ("frame", "transcript", *(["pseudo"] if dtype == torch.float16 else [])):
        assert float(log[name]) == pytest.approx(float(whole[name]), rel=bound), name


HEADS = {"model.keep_heads": "true", "criterion.regression_weight": 4.0, "criterion.frame_weight": 0}
HEADS["criterion.pseudo_weight"] = 0


def test_regression_beside_the_units(distilled, teacher, corpus, tmp_path):
    """Of the teacher's layers, by the heads of the student's distillation; a recogniser does without them."""
    _, task, model, criterion = setup(distilled, teacher, corpus, **HEADS)
    net_input = sample([0, 1])["net_input"]
    loss, _, log = criterion(model.eval(), sample([0, 1]))
    student = model.w2v_encoder.w2v_model
    encoded = student.encode(net_input["source"], net_input["padding_mask"], keep=(1, 2, 3))
    valid = Chosen.where(~encoded.padding_mask, encoded.x.device)
    taught, total = task.teacher.model.encode(**renamed(net_input), keep=(1, 2, 3)).layers, 0.0
    for number, predicted in enumerate(student.heads([encoded.layers[i] for i in (1, 2, 3)]), 1):
        total += float(regression(valid.of(predicted), valid.of(taught[number]), "l1", 1.0)["loss"]) / 3
    assert float(log["regression"]) == pytest.approx(total, rel=1e-5)
    assert float(loss) == pytest.approx(4 * total, rel=1e-5)
    before = load(distilled)["model"]
    heads = [key for key in before if key.startswith("heads.")]
    assert heads and all(torch.equal(student.state_dict()[key], before[key]) for key in heads)
    more = {**HEADS, "task.teacher_path": teacher, "loss": "ctc_distillation"}
    train("finetune", "laptop", finetune_overrides(distilled, corpus, tmp_path, **more))
    trained = str(tmp_path / "checkpoint_last.pt")
    assert not torch.equal(load(trained)["model"][f"w2v_encoder.w2v_model.{heads[0]}"], before[heads[0]])
    places = {"data": str(corpus), "label_dir": str(corpus)}
    (rebuilt,), _, _ = checkpoint_utils.load_model_ensemble_and_task([trained], arg_overrides=places)
    logits = rebuilt.eval()(**sample([1])["net_input"])["encoder_out"].transpose(0, 1)
    slim = load_student(trained)
    assert slim.encoder.heads is None
    assert torch.allclose(logits.log_softmax(-1), slim(sample([1])["net_input"]["source"]).log_probs, atol=1e-4)


def renamed(net_input):
    return {"source": net_input["source"], "audio_padding": net_input["padding_mask"]}


def test_heads_that_are_not_there(checkpoints, distilled, teacher, corpus):
    with pytest.raises(ValueError, match="no heads"):
        setup(checkpoints("tiny"), teacher, corpus, **HEADS)
    with pytest.raises(ValueError, match="needs model.keep_heads=true"):
        setup(distilled, teacher, corpus, **{**HEADS, "model.keep_heads": "false"})


def test_a_batch_of_full_size_in_half_precision(built):
    """10,000 frames, as a recipe's batch on a GPU, of a student that is sure of blank: sums over them pass float16's
    largest number."""
    _, _, model, criterion = built
    model.w2v_encoder.proj.bias.data.fill_(-8.0)
    model.half().eval()
    lengths = [400000] * 8
    given = {**sample([1]), "id": torch.arange(8), "lengths": lengths, "sources": [NOTHING] * 8}
    given.update(target=torch.zeros(8, 0).long(), target_lengths=torch.zeros(8).long())
    given["net_input"] = {"source": torch.randn(8, 400000) * 0.1, "padding_mask": None}
    with torch.no_grad():
        loss, frames, _ = criterion(model, given)
    assert frames == 8 * 1249 and torch.isfinite(loss)


def test_the_teacher_is_run_only_where_it_is_asked(distilled, teacher, corpus, monkeypatch):
    only = {"criterion.frame_weight": 0, "criterion.pseudo_weight": 1}
    _, task, model, criterion = setup(distilled, teacher, corpus, **only)
    assert float(criterion(model, sample([0]))[0]) > 0
    monkeypatch.setattr(type(task.teacher), "__call__", lambda *_, **__: pytest.fail("the teacher was run"))
    assert float(criterion(model, sample([2]))[0]) > 0  # whose words are in the label file
    task.teacher = None
    with pytest.raises(ValueError, match="there is no teacher"):
        criterion(model, sample([0]))
    transcripts = {"criterion.frame_weight": 0, "criterion.pseudo_weight": 0, "criterion.transcript_weight": 1}
    for more in (transcripts, {"loss": "ctc"}):
        assert setup(distilled, teacher, corpus, **more)[1].teacher is None


@pytest.mark.parametrize("path", ["given", ""])
def test_words_written_beforehand_need_no_teacher(distilled, teacher, corpus, path):
    """But for validations without any words; those with transcripts have a word error rate as always."""
    options = {"criterion.frame_weight": 0, "criterion.pseudo_weight": 1, "task.pseudo_labelled": "[train]"}
    _, task, model, criterion = setup(distilled, path and teacher, corpus, **options)
    assert (task.teacher is None) == (not path)
    assert float(criterion(model, sample([2]))[0]) > 0
    log = criterion(model.eval(), sample([0, 3]))[2]
    assert "w_errors" in log and (float(log["pseudo"]) > 0) == bool(path)
    assert (float(criterion(model, sample([1]))[0]) > 0) == bool(path)


def test_ctc_takes_no_speech_without_transcripts(distilled, teacher, corpus):
    for more in ({"task.unlabelled": "[train]"}, {"task.labelled_share": 0.5}, {"task.pseudo_labelled": "[train]"}):
        with pytest.raises(ValueError, match="is for loss=ctc_distillation"):
            setup(distilled, teacher, corpus, loss="ctc", **more)


BAD = {
    "needs criterion.blank_threshold below 1": {"criterion.blank_weight": 0.5},
    "task.labels is empty": {"task.labels": "[]"},
    "criterion.temperature=0": {"criterion.temperature": 0},
    "criterion.frame_weight=-1": {"criterion.frame_weight": -1},
    "there is no loss": {"criterion.frame_weight": 0, "criterion.pseudo_weight": 0},
    "no transcripts in dataset.train_subset=train": {
        "criterion.transcript_weight": 1,
        "task.unlabelled": "[train]",
    },
    "task.labelled_share=0;": {"criterion.transcript_weight": 1, "task.labelled_share": 0},
    "criterion.pseudo_weight=0": {"criterion.pseudo_weight": 0, "task.pseudo_labelled": "[train]"},
    "task.teacher_path is not set": {"task.teacher_path": ""},
}


@pytest.mark.parametrize("told", list(BAD))
def test_settings_that_say_nothing(distilled, teacher, corpus, told):
    with pytest.raises(ValueError) as raised:
        setup(distilled, teacher, corpus, **BAD[told])
    assert told in str(raised.value) and "\n" not in str(raised.value)


def test_teachers_that_cannot_teach(distilled, checkpoints, teacher, corpus, tmp_path):
    for given in ("", corpus / "dict.ltr.txt"):
        with pytest.raises(ValueError, match="not fine-tuned"):
            setup(distilled, checkpoints("tiny"), corpus, **{"task.teacher_dict": given})
    with pytest.raises(ValueError, match="task.teacher_dict=/nope.txt"):
        setup(distilled, teacher, corpus, **{"task.teacher_dict": "/nope.txt"})
    with pytest.raises(ValueError, match="units of kind letter; add units=letters"):
        setup(distilled, teacher, corpus, **{"criterion.post_process": "sentencepiece"})
    state = load(teacher)
    dictionary = state["task_state"]["target_dictionary"]
    dictionary.symbols[5], old = "Ö", dictionary.symbols[5]
    dictionary.indices["Ö"] = dictionary.indices.pop(old)
    torch.save(state, str(tmp_path / "other.pt"))
    with pytest.raises(ValueError, match=f"lacks '{old}'"):
        setup(distilled, str(tmp_path / "other.pt"), corpus)
