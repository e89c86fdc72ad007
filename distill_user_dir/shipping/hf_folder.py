"""A folder that Hugging Face's transformers loads: HubertForCTC or HubertModel, its processor, and a card."""

import json
import os
from typing import Any, Dict, List

import torch
from torch import Tensor

from distill_user_dir.files import read_text, write_bytes, write_lines
from distill_user_dir.machine import need
from distill_user_dir.modules import fbank, fbank_frontend, padding, spec_augment
from distill_user_dir.shipping.int8 import Precision
from distill_user_dir.shipping.runner import BLANK, WORD_END
from distill_user_dir.student import Student, load_student

SOURCES = (fbank, fbank_frontend, padding, spec_augment)  # that hf_student.py takes from here
OURS = "from distill_user_dir.modules."
CODE = "hf_student"
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]  # fairseq's in transformers' words: its blank is <pad>
FIRST_LETTER = len(SPECIAL)
TRAINING = (
    "mask_time_prob mask_feature_prob layerdrop final_dropout hidden_dropout activation_dropout attention_dropout "
    "feat_proj_dropout"
).split()  # 0: who trains it further sets them
# In the order in which they are tried; fairseq's names, and transformers'.
NAMES = (
    ("encoder.pos_conv.0.weight_g", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
    ("encoder.pos_conv.0.weight_v", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
    ("encoder.pos_conv.0.", "encoder.pos_conv_embed.conv."),
    ("post_extract_proj.", "feature_projection.projection."),
    (".self_attn_layer_norm.", ".layer_norm."),
    (".self_attn.", ".attention."),
    (".fc1.", ".feed_forward.intermediate_dense."),
    (".fc2.", ".feed_forward.output_dense."),
)


def renamed(student: Student) -> Dict[str, Tensor]:
    """The weights by the names that transformers has for them."""
    weights = {}
    for name, value in student.encoder.state_dict().items():
        if name == "mask_emb":  # transformers has it where a model masks in training
            continue
        if name.startswith("layer_norm."):
            name = f"feature_projection.{name}"
        elif name.startswith("feature_extractor.conv_layers."):
            _, _, layer, place, *rest = name.split(".")
            part = "conv" if place == "0" else "layer_norm"
            name = f"feature_extractor.conv_layers.{layer}.{part}.{rest[-1]}"
        for theirs, ours in NAMES:
            name = name.replace(theirs, ours)
        weights[name] = value
    width = student.encoder.embed_dim
    if student.encoder.has_cnn and student.encoder.post_extract_proj is None:  # transformers always projects
        weights["feature_projection.projection.weight"] = torch.eye(width)
        weights["feature_projection.projection.bias"] = torch.zeros(width)
    if student.proj is not None:
        weights = {f"hubert.{name}": value for name, value in weights.items()}
        weights.update({f"lm_head.{name}": value for name, value in student.proj.state_dict().items()})
    return {name: value.contiguous().clone() for name, value in weights.items()}


def config_of(student: Student) -> Dict[str, Any]:
    """transformers' config.json."""
    encoder, cfg = student.encoder, student.encoder.configs["model"]
    dims, kernels, strides = (list(one) for one in zip(*encoder.conv_layers))
    known = {
        "model_type": "hubert",
        "architectures": ["HubertModel" if student.proj is None else "HubertForCTC"],
        "hidden_size": encoder.embed_dim,
        "num_hidden_layers": cfg["encoder_layers"],
        "num_attention_heads": cfg["encoder_attention_heads"],
        "intermediate_size": cfg["encoder_ffn_embed_dim"],
        "hidden_act": str(cfg["activation_fn"]),
        "do_stable_layer_norm": encoder.encoder.layer_norm_first,
        "feat_extract_norm": "layer" if cfg["extractor_mode"] == "layer_norm" else "group",
        "conv_dim": dims,
        "conv_kernel": kernels,
        "conv_stride": strides,
        "num_feat_extract_layers": len(dims),
        "conv_bias": cfg["conv_bias"],
        "num_conv_pos_embeddings": cfg["conv_pos"],
        "num_conv_pos_embedding_groups": cfg["conv_pos_groups"],
        "conv_pos_batch_norm": False,
        "layer_norm_eps": 1e-5,
        "vocab_size": max(len(student.symbols), 1),
        "pad_token_id": BLANK,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "ctc_zero_infinity": True,
    }
    known.update(dict.fromkeys(TRAINING, 0.0))
    return known if encoder.has_cnn else {**known, **fbank_config(student)}


def fbank_config(student: Student) -> Dict[str, Any]:
    """What a student with Fbank has in config.json beside that."""
    front, kinds = student.encoder.feature_extractor, ("FbankStudentModel", "FbankStudentForCTC")
    return {
        "model_type": "fbank_student_hubert",
        "architectures": [kinds[student.proj is not None]],
        "auto_map": {
            "AutoConfig": f"{CODE}.FbankStudentConfig",
            "AutoModel": f"{CODE}.{kinds[0]}",
            "AutoModelForCTC": f"{CODE}.{kinds[1]}",
        },
        "fbank": front.fbank.options,
        "fbank_norm": str(student.encoder.configs["model"]["fbank_norm"]),
        "fbank_kernel": front.conv.kernel_size[0],
        "fbank_stride": front.conv.stride[0],
    }


def write_processor(path: str, folder: str, student: Student) -> None:
    """ValueError where transformers' tokeniser cannot join the units."""
    masks = not student.encoder.has_cnn or student.encoder.configs["model"]["extractor_mode"] == "layer_norm"
    extractor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "processor_class": "Wav2Vec2Processor",
        "feature_size": 1,
        "sampling_rate": student.sample_rate,
        "padding_value": 0.0,
        "padding_side": "right",
        "do_normalize": student.encoder.normalize,
        "return_attention_mask": masks,
    }
    write_json(folder, "preprocessor_config.json", extractor)
    if student.proj is None:
        return
    if student.units != "letter":
        raise ValueError(f"{path}: units of {student.units}; transformers joins letters only: --format onnx or sherpa")
    units = [*SPECIAL, *student.symbols[FIRST_LETTER:]]
    if "" in units or len(set(units)) < len(units):
        raise ValueError(f"{path}: its dictionary has a unit twice, or one without a name; --format onnx can hold it")
    write_json(folder, "vocab.json", {unit: i for i, unit in enumerate(units)})
    tokeniser = {
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "processor_class": "Wav2Vec2Processor",
        "pad_token": "<pad>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "word_delimiter_token": WORD_END,
        "do_lower_case": False,
    }
    write_json(folder, "tokenizer_config.json", tokeniser)


def write_json(folder: str, name: str, content: Dict[str, Any]) -> None:
    write_lines(os.path.join(folder, name), [json.dumps(content, indent=2, ensure_ascii=False)])


def write_code(folder: str) -> None:
    """What loads a student with Fbank where nothing of this project is installed."""
    here = os.path.dirname(os.path.abspath(__file__))
    for path in (os.path.join(here, f"{CODE}.py"), *(source.__file__ for source in SOURCES)):
        text = read_text(path).replace(OURS, "from .")
        write_lines(os.path.join(folder, os.path.basename(path)), text.splitlines())


def write_folder(path: str, folder: str, precision: Precision) -> List[str]:
    """A checkpoint, exported into an empty folder -> how to use it. ValueError where transformers cannot hold it."""
    if precision is not None:
        raise ValueError("--int8: for --format onnx, sherpa and web; transformers quantises models as it loads them")
    student = load_student(path, folded=False)
    weights = need("safetensors.torch", "export")
    write_processor(path, folder, student)
    write_json(folder, "config.json", config_of(student))
    content = weights.save(renamed(student), metadata={"format": "pt"})
    write_bytes(os.path.join(folder, "model.safetensors"), content)
    if not student.encoder.has_cnn:
        write_code(folder)
    return usage(student)


def usage(student: Student) -> List[str]:
    trusted = "" if student.encoder.has_cnn else ", trust_remote_code=True"
    if student.proj is None:
        lines = [
            "from transformers import AutoFeatureExtractor, AutoModel",
            f"extractor, model = AutoFeatureExtractor.from_pretrained('.'), AutoModel.from_pretrained('.'{trusted})",
            f"inputs = extractor(samples, sampling_rate={student.sample_rate}, return_tensors='pt')",
            "features = model(**inputs).last_hidden_state",
        ]
    else:
        lines = [
            "from transformers import pipeline",
            f"recogniser = pipeline('automatic-speech-recognition', '.'{trusted})",
            "print(recogniser('speech.wav')['text'])  # which ffmpeg reads, or",
            "print(recogniser({'raw': samples, 'sampling_rate': rate})['text'])  # what soundfile.read has given",
        ]
    alone = [
        "",
        "The first layer's norm is over the whole recording, and transformers has padding in it: give recordings one",
        "by one, not in batches.",
    ]
    grouped = student.encoder.has_cnn and student.encoder.configs["model"]["extractor_mode"] != "layer_norm"
    scaled = [
        "",
        "Audio is made of variance 1, to which transformers adds 1e-7 and fairseq 1e-5: very quiet recordings differ.",
    ]
    more = (alone if grouped else []) + (scaled if student.encoder.normalize else [])
    return ["```", "pip install transformers torch soundfile", "```", "```python", *lines, "```", *more]
