"""A HuBERT or student made ready for inference: the same function, with nothing computed twice."""

import torch
from torch import nn

from distill_user_dir.modules.block_convolution import BlockConvolution
from distill_user_dir.modules.hubert import LengthAwareHubert


def fold(model: LengthAwareHubert) -> LengthAwareHubert:
    """In place, of a model in eval mode that will not be trained: the positional convolution's weight is computed from
    direction and length once, and applied block by block; a layer's queries, keys and values come out of one product.
    Its names of parameters are then no longer fairseq's, so that its state dict is of no use to a checkpoint."""
    for number, module in enumerate(model.encoder.pos_conv):
        if isinstance(module, nn.Conv1d):
            model.encoder.pos_conv[number] = BlockConvolution(nn.utils.remove_weight_norm(module))
    for layer in model.encoder.layers:
        join_projections(layer.self_attn)
    return model


@torch.no_grad()
def join_projections(attention: nn.Module) -> None:
    """Replaces `q_proj`, `k_proj` and `v_proj` by one weight and one bias."""
    parts = [attention.q_proj, attention.k_proj, attention.v_proj]
    attention.joined_weight = nn.Parameter(torch.cat([part.weight for part in parts]), requires_grad=False)
    attention.joined_bias = nn.Parameter(torch.cat([part.bias for part in parts]), requires_grad=False)
    del attention.q_proj, attention.k_proj, attention.v_proj
