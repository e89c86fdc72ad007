"""fairseq's HuBERT, told the lengths of its input: same parameters, same names, and padding changes nothing."""

import contextlib
from typing import Any, Collection, Dict, List, NamedTuple, Optional, Tuple

import torch
from fairseq.models.hubert.hubert import HubertModel
from fairseq.modules import GradMultiply
from omegaconf import OmegaConf
from torch import Tensor

from distill_user_dir.conv_layers import num_frames, parse_conv_layers
from distill_user_dir.frame_labels import labelled_frames
from distill_user_dir.modules.conv_frontend import ConvFrontend
from distill_user_dir.modules.span_mask import span_mask
from distill_user_dir.padding import lengths_of, normalise_audio, padding_mask


class Encoded(NamedTuple):
    """x: (B, T, D), the output; layers: {1-based layer: (B, T, D)}; padding_mask: (B, T) bool, True = padded; masked:
    (B, T) bool, the frames that were masked, or None."""

    x: Tensor
    layers: Dict[int, Tensor]
    padding_mask: Tensor
    masked: Optional[Tensor] = None


def plain_config(cfg: Any) -> Any:
    """A copy of a model config whose `conv_feature_layers` was parsed, so that fairseq's `eval` of it runs no code."""
    cfg = cfg if OmegaConf.is_config(cfg) else OmegaConf.structured(cfg)
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))
    cfg.conv_feature_layers = str(parse_conv_layers(cfg.conv_feature_layers))
    OmegaConf.set_struct(cfg, True)  # omegaconf 2.0 gives None for absent keys otherwise, and getattr's default is lost
    return cfg


def check_config(cfg: Any) -> None:
    """What fairseq would refuse with a bare assertion, or accept and do otherwise: a ValueError."""
    if cfg.encoder_embed_dim % cfg.encoder_attention_heads:
        raise ValueError(
            f"encoder_embed_dim {cfg.encoder_embed_dim} is not a multiple of "
            f"encoder_attention_heads {cfg.encoder_attention_heads}: change one of them"
        )
    if cfg.encoder_embed_dim % cfg.conv_pos_groups:
        raise ValueError(
            f"encoder_embed_dim {cfg.encoder_embed_dim} is not a multiple of conv_pos_groups {cfg.conv_pos_groups}: "
            "change one of them"
        )
    for name in ("mask_selection", "mask_channel_selection"):
        if str(cfg[name]) != "static":
            raise ValueError(f"{name}={cfg[name]}: only static masks are supported, the kind that HuBERT uses")
    if cfg.no_mask_overlap or cfg.no_mask_channel_overlap:
        raise ValueError("no_mask_overlap and no_mask_channel_overlap are not supported: set them to false")


class LengthAwareHubert(HubertModel):
    """HubertModel whose masks and statistics come from the lengths of its input.

    It normalises the audio itself where its pre-training task did (`task_cfg.normalize`), so that data sets
    deliver raw audio and models of both kinds work side by side.
    """

    def __init__(self, cfg: Any, task_cfg: Any, dictionaries: List[Any], valid_statistics: bool = True):
        cfg = plain_config(cfg)
        check_config(cfg)
        super().__init__(cfg, task_cfg, dictionaries)
        self.conv_layers = parse_conv_layers(cfg.conv_feature_layers)
        self.feature_extractor = ConvFrontend(self.conv_layers, cfg.extractor_mode, cfg.conv_bias, valid_statistics)
        self.normalize = bool(task_cfg.normalize)
        self.sample_rate = int(task_cfg.sample_rate)
        self.embed_dim = int(cfg.encoder_embed_dim)

    def num_frames(self, samples: Tensor) -> Tensor:
        """(B,) samples -> (B,) frames."""
        return num_frames(samples, self.conv_layers)

    def frontend(self, source: Tensor, lengths: Optional[Tensor]) -> Tensor:
        """(B, N) audio as the data set gives it, (B,) samples -> (B, T, C) features of the CNN, normalised."""
        if self.normalize:
            source = normalise_audio(source.float(), lengths_of(source, None) if lengths is None else lengths)
        source = source.to(self.mask_emb.dtype)
        with torch.no_grad() if self.feature_grad_mult <= 0 else contextlib.ExitStack():
            features = self.feature_extractor(source, lengths)
        if self.feature_grad_mult not in (0.0, 1.0):
            features = GradMultiply.apply(features, self.feature_grad_mult)
        return self.layer_norm(features.transpose(1, 2))

    def apply_mask(
        self, x: Tensor, padded: Optional[Tensor], target_list: Any = None
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """(B, T, D), (B, T) bool or None -> x with masked spans (time, then channels), and the (B, T) time mask."""
        size, dim = x.shape[1:]
        masked = None
        if self.mask_prob > 0:
            lengths = lengths_of(x, padded)
            masked = span_mask(lengths, size, self.mask_prob, self.mask_length, min_spans=2)
            x = torch.where(masked.unsqueeze(-1), self.mask_emb.to(x.dtype), x)
        if self.mask_channel_prob > 0:
            channels = torch.full((x.size(0),), dim, dtype=torch.long, device=x.device)
            dropped = span_mask(channels, dim, self.mask_channel_prob, self.mask_channel_length)
            x = x.masked_fill(dropped.unsqueeze(1), 0)
        return x, masked

    def encoder_input(self, x: Tensor, padded: Optional[Tensor]) -> Tensor:
        """(B, T, D) projected features -> (B, T, D) input of the first layer: positional convolution, LayerNorm."""
        encoder = self.encoder
        if padded is not None:
            x = x.masked_fill(padded.unsqueeze(-1), 0)
        x = x + encoder.pos_conv(x.transpose(1, 2)).transpose(1, 2)
        return x if encoder.layer_norm_first else encoder.layer_norm(x)

    def run_layers(self, x: Tensor, padded: Optional[Tensor], last: int, keep: Collection[int]) -> Encoded:
        """Layers 1 to `last` on (B, T, D); keeps the outputs of those in `keep`. Layerdrop uses torch's generator."""
        encoder = self.encoder
        x = torch.nn.functional.dropout(x, encoder.dropout, self.training).transpose(0, 1)
        drop = encoder.layerdrop if self.training else 0.0
        kept = {}
        for number, layer in enumerate(encoder.layers[:last], 1):
            if drop == 0 or torch.rand(()).item() >= drop:
                x = layer(x, self_attn_padding_mask=padded, need_weights=False)[0]
            if number in keep:
                kept[number] = x.transpose(0, 1)
        x = x.transpose(0, 1)
        if encoder.layer_norm_first and last == len(encoder.layers):
            x = encoder.layer_norm(x)
        return Encoded(x, kept, padded)

    def encode(
        self,
        source: Tensor,
        audio_padding: Optional[Tensor] = None,
        mask: bool = False,
        keep: Collection[int] = (),
        last: Optional[int] = None,
        label_counts: Optional[Tensor] = None,
    ) -> Encoded:
        """(B, N) raw audio, (B, N) bool padding mask or None -> Encoded.

        keep: the layers whose outputs are wanted, 1-based, as they leave the layer (a pre-LN model's final LayerNorm
        is in `x` alone, and only where the last layer was run); last: the last layer that is run, all by default;
        label_counts: (B,) frame labels of each utterance, where frames without a label are to count as padding.
        """
        lengths = lengths_of(source, audio_padding)
        ragged = audio_padding is not None and bool(audio_padding.any())
        x = self.frontend(source, lengths if ragged else None)
        frames = self.num_frames(lengths)
        if label_counts is not None:
            frames = labelled_frames(frames, label_counts, self.feat2tar_ratio)
        padded = padding_mask(frames, x.size(1))
        attended = padded if ragged or label_counts is not None else None
        if self.post_extract_proj is not None:
            x = self.post_extract_proj(x)
        x = self.dropout_input(x)
        x, masked = self.apply_mask(x, padded) if mask else (x, None)
        last = len(self.encoder.layers) if last is None else last
        encoded = self.run_layers(self.encoder_input(x, attended), attended, last, keep)
        return encoded._replace(padding_mask=padded, masked=masked)

    def forward(
        self, source: Tensor, padding_mask: Optional[Tensor] = None, mask: bool = False, **kwargs: Any
    ) -> Encoded:
        """As `encode`."""
        return self.encode(source, padding_mask, mask, **kwargs)

    def extract_features(
        self,
        source: Tensor,
        padding_mask: Optional[Tensor] = None,
        mask: bool = False,
        ret_conv: bool = False,
        output_layer: Optional[int] = None,
    ) -> Tuple[Tensor, Tensor]:
        """fairseq's interface: (B, N), (B, N) bool -> (B, T, D), (B, T) bool. `output_layer` is 1-based."""
        if ret_conv:
            raise ValueError("ret_conv=true is not supported: use `frontend`")
        if output_layer is None:
            encoded = self.encode(source, padding_mask, mask)
            return encoded.x, encoded.padding_mask
        encoded = self.encode(source, padding_mask, mask, keep=(output_layer,), last=output_layer)
        return encoded.layers[output_layer], encoded.padding_mask

    def remove_pretraining_modules(self) -> None:
        """fairseq's, and the label embeddings, which fairseq leaves behind."""
        super().remove_pretraining_modules()
        self.label_embs_concat = None
