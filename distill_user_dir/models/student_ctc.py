"""Model `student_ctc`: a student, or an original HuBERT, with a CTC output layer."""

import contextlib
from dataclasses import dataclass, field
from typing import Any, Dict, Optional

import torch
from fairseq.models import FairseqEncoder, register_model
from fairseq.models.hubert.hubert_asr import HubertCtc, HubertCtcConfig, HubertEncoder, Linear
from omegaconf import OmegaConf, open_dict
from torch import Tensor, nn

from distill_user_dir.checkpoints.building import build_hubert
from distill_user_dir.checkpoints.hubert import HubertCheckpoint, hubert_in

# Config values of the encoder that fine-tuning sets anew, by their names there and here.
ENCODER_OVERRIDES = {
    name: name
    for name in (
        "dropout activation_dropout dropout_input attention_dropout feature_grad_mult mask_length mask_prob "
        "mask_selection mask_other no_mask_overlap mask_channel_length mask_channel_prob mask_channel_selection "
        "mask_channel_other no_mask_channel_overlap"
    ).split()
}
ENCODER_OVERRIDES["encoder_layerdrop"] = "layerdrop"
SPEC_AUGMENT = ("spec_freq_masks", "spec_freq_width", "spec_time_masks", "spec_time_width", "spec_time_share")
OF_STUDENT = "SpecAugment of an Fbank student, see student_hubert; null takes what it was distilled with"


@dataclass
class StudentCtcConfig(HubertCtcConfig):
    valid_statistics: Optional[bool] = field(
        default=None,
        metadata={"help": "see student_hubert; null takes the student's own, and true for an original HuBERT"},
    )
    keep_heads: bool = field(
        default=False,
        metadata={"help": "those of a distilled student, for criterion.regression_weight of ctc_distillation"},
    )
    spec_freq_masks: Optional[int] = field(default=None, metadata={"help": OF_STUDENT})
    spec_freq_width: Optional[int] = field(default=None, metadata={"help": OF_STUDENT})
    spec_time_masks: Optional[int] = field(default=None, metadata={"help": OF_STUDENT})
    spec_time_width: Optional[int] = field(default=None, metadata={"help": OF_STUDENT})
    spec_time_share: Optional[float] = field(default=None, metadata={"help": OF_STUDENT})


def pretrained_encoder(cfg: StudentCtcConfig) -> HubertCheckpoint:
    """The encoder to start from: the file `w2v_path`, or the structure in `w2v_args` where a checkpoint is rebuilt."""
    if cfg.w2v_args is None:
        if OmegaConf.is_missing(cfg, "w2v_path") or not cfg.w2v_path:
            raise ValueError("model.w2v_path is not set: name the checkpoint to fine-tune")
        return hubert_in(cfg.w2v_path)
    args = OmegaConf.to_container(cfg.w2v_args) if OmegaConf.is_config(cfg.w2v_args) else cfg.w2v_args
    return HubertCheckpoint("w2v_args", args["model"]["_name"], args["model"], args["task"], {}, False)


class CtcEncoder(HubertEncoder):
    """fairseq's HubertEncoder, built our way: safely, without dictionaries, every weight accounted for."""

    def __init__(self, cfg: StudentCtcConfig, task: Any):
        FairseqEncoder.__init__(self, task.source_dictionary)
        checkpoint = pretrained_encoder(cfg)
        overrides: Dict[str, Any] = {theirs: cfg[ours] for theirs, ours in ENCODER_OVERRIDES.items()}
        overrides.update({name: cfg[name] for name in SPEC_AUGMENT if cfg[name] is not None})
        weights = cfg.w2v_args is None and not cfg.no_pretrained_weights
        self.w2v_model = build_hubert(checkpoint, overrides, weights, cfg.valid_statistics, cfg.keep_heads)
        self.apply_mask = cfg.apply_mask
        self.final_dropout = nn.Dropout(cfg.final_dropout)
        self.freeze_finetune_updates = cfg.freeze_finetune_updates
        self.num_updates = 0
        self.proj = Linear(self.w2v_model.embed_dim, len(task.target_dictionary))

    def forward(
        self, source: Tensor, padding_mask: Optional[Tensor], tbc: bool = True, **kwargs: Any
    ) -> Dict[str, Any]:
        """fairseq's, and `predicted`, (B, T, D) each, what heads that were kept say of the teacher's layers."""
        model = self.w2v_model
        if getattr(model, "heads", None) is None:
            return super().forward(source, padding_mask, tbc, **kwargs)
        learns, depth = self.freeze_finetune_updates <= self.num_updates, len(model.encoder.layers)
        with contextlib.ExitStack() if learns else torch.no_grad():
            encoded = model.encode(source, padding_mask, self.apply_mask and self.training, range(1, depth + 1))
        x = encoded.x.transpose(0, 1) if tbc else encoded.x
        return {
            "encoder_out": self.proj(self.final_dropout(x)),
            "encoder_padding_mask": encoded.padding_mask,
            "padding_mask": encoded.padding_mask,
            "predicted": model.heads([encoded.layers[number] for number in range(1, depth + 1)]),
        }


def blank_where_padded(logits: Tensor, padded: Tensor) -> Tensor:
    """(..., V) logits, (...) bool -> logits with blank (index 0) for certain where padded."""
    blank = torch.full_like(logits[0, 0], float("-inf"))
    blank[0] = 0.0
    return torch.where(padded.unsqueeze(-1), blank, logits)


@register_model("student_ctc", dataclass=StudentCtcConfig)
class StudentCtc(HubertCtc):
    """A checkpoint of it holds the encoder's structure (`w2v_args`), so that it needs no other file to be rebuilt."""

    @classmethod
    def build_model(cls, cfg: StudentCtcConfig, task: Any) -> "StudentCtc":
        if not getattr(task.cfg, "fine_tuning", False):
            raise ValueError("model student_ctc needs task.fine_tuning=true")
        encoder = CtcEncoder(cfg, task)
        with open_dict(cfg):  # omegaconf 2.0 refuses a dict's keys otherwise
            cfg.w2v_args = encoder.w2v_model.configs
        return cls(cfg, encoder)

    def get_logits(self, net_output: Dict[str, Tensor]) -> Tensor:
        """(T, B, V) logits in which padded frames are blank for certain; fairseq's masking of them has no effect."""
        return blank_where_padded(net_output["encoder_out"], net_output["encoder_padding_mask"].T)
