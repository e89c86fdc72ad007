"""A student with Fbank as a model of transformers: `AutoModelForCTC.from_pretrained(FOLDER, trust_remote_code=True)`.

An export holds this file, and those that it takes from distill_user_dir, with the imports made relative.
"""

from typing import Any, Optional

import torch
from torch import Tensor, nn
from transformers import HubertConfig, HubertForCTC, HubertModel

from distill_user_dir.modules.fbank import KaldiFbank
from distill_user_dir.modules.fbank_frontend import NORMS, FbankFrontend
from distill_user_dir.modules.spec_augment import SpecAugment


class FbankStudentConfig(HubertConfig):
    """fbank: the options of KaldiFbank by name; fbank_norm: `global` or `utterance`; fbank_kernel, fbank_stride: of the
    convolution over Fbank frames."""

    model_type = "fbank_student_hubert"

    def __init__(self, fbank: Optional[dict] = None, fbank_norm: str = "global", **options: Any):
        self.fbank, self.fbank_norm = fbank or {}, fbank_norm
        self.fbank_kernel, self.fbank_stride = options.pop("fbank_kernel", 5), options.pop("fbank_stride", 2)
        super().__init__(**options)


class Features(FbankFrontend):
    """In the place of HuBERT's CNN: (B, N) audio -> (B, D, T), with the lengths that the model was told."""

    lengths: Optional[Tensor] = None

    def _freeze_parameters(self) -> None:
        """transformers' name for it."""
        self.requires_grad_(False)

    def forward(self, source: Tensor) -> Tensor:
        return super().forward(source, self.lengths).transpose(1, 2)


class FbankStudentModel(HubertModel):
    config_class = FbankStudentConfig

    def __init__(self, config: FbankStudentConfig):
        super().__init__(config)
        fbank = fbank_of(config.fbank)
        norm = NORMS[config.fbank_norm](fbank.mel.size(1))
        augment = SpecAugment(0, 0, 0, 0)
        self.feature_extractor = Features(
            config.hidden_size, fbank, norm, augment, config.fbank_kernel, config.fbank_stride
        )
        self.feature_projection = nn.Identity()
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        restore_tables(module)

    def forward(self, input_values: Tensor, attention_mask: Optional[Tensor] = None, **options: Any) -> Any:
        self.feature_extractor.lengths = None if attention_mask is None else attention_mask.sum(1)
        return super().forward(input_values, attention_mask=attention_mask, **options)


class FbankStudentForCTC(HubertForCTC):
    config_class = FbankStudentConfig

    def __init__(self, config: FbankStudentConfig):
        super().__init__(config)
        self.hubert = FbankStudentModel(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        restore_tables(module)


def restore_tables(module: nn.Module) -> None:
    """transformers makes models without memory, and fills in what is in the file: the tables of Fbank are not."""
    if isinstance(module, KaldiFbank):
        for name, table in fbank_of(module.options).named_buffers():
            setattr(module, name, table)


def fbank_of(options: dict) -> KaldiFbank:
    """With its tables in memory."""
    with torch.device("cpu"):
        return KaldiFbank(**options)
