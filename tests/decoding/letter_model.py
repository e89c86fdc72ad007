"""A model that reads letters off the amplitude of the audio, and language models, so that decodes are known by hand."""

from dataclasses import dataclass

import numpy as np
import soundfile
import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model
from fairseq.models.transformer_lm import TransformerLanguageModelConfig
from fairseq.tasks import setup_task
from omegaconf import OmegaConf

from distill_user_dir.checkpoints import sections
from distill_user_dir.checkpoints.layouts.layout import Layout
from tests.helpers import dictionary, struct

FRAME = 400  # samples
LETTERS = dictionary("|ETAONISHRDL")


@dataclass
class LettersConfig(FairseqDataclass):
    pass


@register_model("letters_for_test", dataclass=LettersConfig)
class Letters(BaseFairseqModel):
    """Amplitude k / gain of a frame says symbol k, whose logit is 5, and 0 all others'; logits are (T, B, V)."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.zeros(()))

    @classmethod
    def build_model(cls, cfg, task):
        return cls()

    def forward(self, source, padding_mask):
        """(B, N) audio -> (B, T) symbols; where frames are padded, one that is not blank."""
        symbols = (source.unfold(1, FRAME, FRAME).abs().mean(-1) * self.gain).round().long()
        return symbols, padding_mask[:, ::FRAME][:, : symbols.size(1)]

    def get_logits(self, net_output):
        symbols, padding = net_output
        return torch.nn.functional.one_hot(symbols.masked_fill(padding, 0), 64).float().transpose(0, 1) * 5


class LettersLayout(Layout):
    """The kind of its checkpoints."""

    names = ("letters_for_test",)
    tasks = ("hubert_distillation",)
    decodes = True

    def weights(self, model, there):
        yield from ()


sections.LAYOUTS += (LettersLayout(),)


def waveform(text, gain=64):
    """A frame a letter, a blank frame behind each, two blank ones at the end."""
    symbols = [k for letter in text.replace(" ", "|") for k in (LETTERS.index(letter), 0)] + [0, 0]
    return np.repeat(np.array(symbols, dtype=np.float32) / gain, FRAME)


def write_split(folder, split, utterances):
    """Rows of path, reference and what the audio says (and more, not used) -> manifest, letters and dictionary."""
    lines = [str(folder / "audio")]
    for name, _, hypothesis, *_ in utterances:
        samples = waveform(hypothesis)
        (folder / "audio" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(str(folder / "audio" / name), samples, 16000, subtype="PCM_16")
        lines.append(f"{name}\t{len(samples)}")
    (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    spelled = [" ".join(reference.replace(" ", "|") + "|") for _, reference, *_ in utterances]
    (folder / f"{split}.ltr").write_text("\n".join(spelled) + "\n")
    LETTERS.save(str(folder / "dict.ltr.txt"))


def save_checkpoint(path, model, weights):
    cfg = {"model": model, "task": {"_name": "hubert_distillation", "data": "", "normalize": False}}
    state = {"args": None, "cfg": cfg, "model": weights, "task_state": {"target_dictionary": LETTERS}}
    history = [{"optimizer_name": "FairseqAdam", "lr_scheduler_state": {}, "num_updates": 1}]
    torch.save(dict(state, optimizer_history=history, extra_state={}), str(path))


def write_arpa(path, words, pairs):
    """A bigram language model: logarithms to base 10 by word, and by pair of words."""
    lines = ["\\data\\", f"ngram 1={len(words) + 3}", f"ngram 2={len(pairs)}", "", "\\1-grams:"]
    lines += ["-9\t<unk>\t0", "0\t<s>\t0", "-1\t</s>"] + [f"{score}\t{word}\t0" for word, score in words.items()]
    lines += ["", "\\2-grams:"] + [f"{score}\t{first} {second}" for (first, second), score in pairs.items()]
    path.write_text("\n".join(lines + ["", "\\end\\", ""]))
    return path


def language_model(folder, words):
    """dict.txt in `folder`, and a Transformer of fairseq's over these words: its checkpoint, and the model itself."""
    dictionary(words).save(str(folder / "dict.txt"))
    task = {"_name": "language_modeling", "data": str(folder), "tokens_per_sample": 32, "max_target_positions": 32}
    sizes = {
        "decoder_layers": 1,
        "decoder_input_dim": 16,
        "decoder_embed_dim": 16,
        "decoder_output_dim": 16,
        "decoder_ffn_embed_dim": 16,
        "decoder_attention_heads": 2,
    }
    config = OmegaConf.merge(OmegaConf.structured(TransformerLanguageModelConfig()), sizes)
    config = {k: v for k, v in OmegaConf.to_container(config, enum_to_str=True).items() if "${" not in str(v)}
    config.update(_name="transformer_lm", max_target_positions=32, tokens_per_sample=32)
    task["seed"] = 1
    model = setup_task(struct(task)).build_model(struct(config))
    return {"args": None, "cfg": {"model": config, "task": task}, "model": model.state_dict()}, model
