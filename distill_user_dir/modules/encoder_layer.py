"""One Transformer layer of fairseq's, computed batch first and by torch's fused attention."""

from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attention(module: nn.Module, x: Tensor, attended: Optional[Tensor]) -> Tensor:
    """fairseq's `MultiheadAttention` of x with itself: (B, T, D), (B, 1, 1, T) bool or None for all -> (B, T, D)."""
    parts = qkv(module, x)
    if hasattr(module, "exported") and torch.compiler.is_exporting():  # an ONNX graph's own
        return module.out_proj(module.exported(*parts, attended))
    queries, keys, values = (heads.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for heads in parts)
    dropout = module.dropout_module.p if module.training else 0.0
    x = F.scaled_dot_product_attention(queries, keys, values, attended, dropout)
    return module.out_proj(x.transpose(1, 2).flatten(2))


def qkv(module: nn.Module, x: Tensor) -> Tuple[Tensor, ...]:
    """(B, T, D) -> three of (B, T, D); by one product where the projections were joined (`join_projections`)."""
    if hasattr(module, "joined_weight"):
        return F.linear(x, module.joined_weight, module.joined_bias).chunk(3, -1)
    return module.q_proj(x), module.k_proj(x), module.v_proj(x)


def encoder_layer(layer: nn.Module, x: Tensor, attended: Optional[Tensor]) -> Tensor:
    """fairseq's `TransformerSentenceEncoderLayer`: (B, T, D), (B, 1, 1, T) bool, True where there is something to
    attend to, or None for all -> (B, T, D)."""
    before = layer.layer_norm_first
    inner = layer.self_attn_layer_norm(x) if before else x
    x = x + layer.dropout1(attention(layer.self_attn, inner, attended))
    if not before:
        x = layer.self_attn_layer_norm(x)
    inner = layer.final_layer_norm(x) if before else x
    inner = layer.fc2(layer.dropout2(layer.activation_fn(layer.fc1(inner))))
    x = x + layer.dropout3(inner)
    return x if before else layer.final_layer_norm(x)
