"""fairseq's HuBERT, told the lengths of its input: same parameters, same names, and padding changes nothing."""

import contextlib
from typing import Any, Collection, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from fairseq.models.hubert.hubert import HubertModel
from fairseq.modules import GradMultiply
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from distill_user_dir.modules.conv_frontend import ConvFrontend
from distill_user_dir.modules.conv_layers import num_frames, parse_conv_layers
from distill_user_dir.modules.encoder_layer import encoder_layer
from distill_user_dir.modules.frame_alignment import labelled_frames
from distill_user_dir.modules.padding import lengths_of, normalise_audio, padding_mask, to_device
from distill_user_dir.modules.span_mask import span_mask

FEATURES, PROJECTED, LAYER_INPUT = -2, -1, 0  # what comes before layer 1


class Encoded(NamedTuple):
    """x: (B, T, D), the output; layers: {1-based layer, or one of the above: (B, T, D)}; padding_mask: (B, T) bool,
    True = padded; frames: (B,) valid frames; masked: (B, T) bool, the frames that were masked, or None. The last two
    are on the CPU where the lengths of the audio were given."""

    x: Tensor
    layers: Dict[int, Tensor]
    padding_mask: Optional[Tensor]
    frames: Optional[Tensor] = None
    masked: Optional[Tensor] = None


class Projected(NamedTuple):
    """x: (B, T, D), the front-end's features at the Transformer's width; features: (B, T, C), what it was projected
    from, before the LayerNorm; frames: (B,) valid frames."""

    x: Tensor
    features: Tensor
    frames: Tensor


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
    if str(cfg.layer_type) != "transformer":
        raise ValueError(f"layer_type={cfg.layer_type}: only transformer is supported, the kind that HuBERT uses")
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

    has_cnn = True  # its front-end works on the waveform

    def __init__(self, cfg: Any, task_cfg: Any, dictionaries: List[Any], valid_statistics: bool = True):
        cfg = plain_config(cfg)
        check_config(cfg)
        super().__init__(OmegaConf.merge(cfg, {"checkpoint_activations": False}), task_cfg, dictionaries)
        self.conv_layers = parse_conv_layers(cfg.conv_feature_layers)
        self.feature_extractor = ConvFrontend(self.conv_layers, cfg.extractor_mode, cfg.conv_bias, valid_statistics)
        self.normalize = bool(task_cfg.normalize)
        self.sample_rate = int(task_cfg.sample_rate)
        self.embed_dim = int(cfg.encoder_embed_dim)
        self.recompute = bool(cfg.checkpoint_activations)

    def num_frames(self, samples: Tensor) -> Tensor:
        """(B,) samples -> (B,) frames."""
        return num_frames(samples, self.conv_layers)

    def extract(self, source: Tensor, lengths: Optional[Tensor]) -> Tensor:
        """(B, N) audio, (B,) samples or None -> (B, T, C) features of the CNN."""
        return self.feature_extractor(source.to(self.mask_emb.dtype), lengths).transpose(1, 2)

    def frontend(self, source: Tensor, lengths: Optional[Tensor]) -> Tensor:
        """(B, N) audio as the data set gives it, (B,) samples or None where nothing is padded -> (B, T, C) features,
        before their LayerNorm."""
        if self.normalize:
            source = normalise_audio(source.float(), lengths)
        with torch.no_grad() if self.feature_grad_mult <= 0 else contextlib.ExitStack():
            features = self.extract(source, lengths)
        if self.training and self.feature_grad_mult not in (0.0, 1.0):
            features = GradMultiply.apply(features, self.feature_grad_mult)
        return features

    def project(
        self, source: Tensor, audio_padding: Optional[Tensor] = None, lengths: Optional[Tensor] = None
    ) -> Projected:
        """(B, N) raw audio, (B, N) bool padding mask or None where nothing is padded, (B,) samples where they are known
        already -> what the Transformer sees of it."""
        lengths = lengths_of(source, audio_padding) if lengths is None else lengths
        features = self.frontend(source, None if audio_padding is None else to_device(lengths, source.device))
        x = self.layer_norm(features)
        if self.post_extract_proj is not None:
            x = self.post_extract_proj(x)
        return Projected(x, features, self.num_frames(lengths))

    def apply_mask(self, x: Tensor, frames: Tensor, target_list: Any = None) -> Tuple[Tensor, Optional[Tensor]]:
        """(B, T, D), (B,) valid frames -> x with masked spans (time, then channels), and the (B, T) time mask, which is
        where the frames are."""
        size, dim = x.shape[1:]
        masked = None
        if self.mask_prob > 0:
            masked = span_mask(frames, size, self.mask_prob, self.mask_length, min_spans=2)
            x = torch.where(to_device(masked, x.device).unsqueeze(-1), self.mask_emb.to(x.dtype), x)
        if self.mask_channel_prob > 0:
            channels = torch.full_like(frames, dim)
            dropped = span_mask(channels, dim, self.mask_channel_prob, self.mask_channel_length)
            x = x.masked_fill(to_device(dropped, x.device).unsqueeze(1), 0)
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
        attended = None if padded is None else ~padded[:, None, None]
        drop = encoder.layerdrop if self.training else 0.0
        kept = {LAYER_INPUT: x} if LAYER_INPUT in keep else {}
        x = torch.nn.functional.dropout(x, encoder.dropout, self.training)
        for number, layer in enumerate(encoder.layers[:last], 1):
            if drop == 0 or torch.rand(()).item() >= drop:
                if self.recompute and torch.is_grad_enabled():
                    x = checkpoint(encoder_layer, layer, x, attended, use_reentrant=False)
                else:
                    x = encoder_layer(layer, x, attended)
            if number in keep:
                kept[number] = x
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
        lengths: Optional[Sequence[int]] = None,
    ) -> Encoded:
        """(B, N) raw audio, (B, N) bool padding mask or None where nothing is padded -> Encoded.

        keep: the layers whose outputs are wanted, 1-based, as they leave the layer (a pre-LN model's final LayerNorm
        is in `x` alone, and only where the last layer was run), LAYER_INPUT for the input of layer 1, PROJECTED for
        the features before masks and positional convolution and FEATURES for these before LayerNorm and projection;
        last: the last of these that is computed, by default all; label_counts: (B,) frame labels of each utterance,
        where frames without a label are to count as padding; lengths: samples of each utterance, as the mask has them,
        where the CPU knows them: nothing then waits for the device.
        """
        samples = lengths_of(source, audio_padding, lengths)
        x, features, frames = self.project(source, audio_padding, samples)
        if label_counts is not None:
            frames = labelled_frames(frames, to_device(label_counts, frames.device), self.feat2tar_ratio)
        padded = padding_mask(to_device(frames, x.device), x.size(1))
        before = {PROJECTED: x, FEATURES: features}
        kept = {name: before[name] for name in keep if name in before}
        if last == PROJECTED:
            return Encoded(x, kept, padded, frames)
        attended = None if audio_padding is None and label_counts is None else padded
        x = self.dropout_input(x)
        x, masked = self.apply_mask(x, frames) if mask else (x, None)
        last = len(self.encoder.layers) if last is None else last
        encoded = self.run_layers(self.encoder_input(x, attended), attended, last, keep)
        return encoded._replace(layers={**kept, **encoded.layers}, padding_mask=padded, frames=frames, masked=masked)

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
        asks = padding_mask is not None and not self.training and not torch.compiler.is_compiling()
        if asks and not bool(padding_mask.any()):
            padding_mask = None
        if output_layer is None:
            encoded = self.encode(source, padding_mask, mask)
            return encoded.x, encoded.padding_mask
        encoded = self.encode(source, padding_mask, mask, keep=(output_layer,), last=output_layer)
        return encoded.layers[output_layer], encoded.padding_mask

    def remove_pretraining_modules(self) -> None:
        """fairseq's, and the label embeddings, which fairseq leaves behind."""
        super().remove_pretraining_modules()
        self.label_embs_concat = None
