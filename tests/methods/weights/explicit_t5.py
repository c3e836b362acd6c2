"""T5 written out, with the places where adapters, biases and a ladder of side layers come in.

`w` maps names of tensors to tensors: the backbone's, and those that a method trains. Dropout is left out.
"""

import torch
from torch.nn import functional
from transformers.models.t5.modeling_t5 import T5Attention

# The name of a stack's position bias behind the layer that holds it.
BIAS = "SelfAttention.relative_attention_bias.weight"


def linear(w, name, x):
    y = x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)
    return adapter(w, f"{name}.adapter", y)


def adapter(w, name, x):
    """The product x + W_up gelu(W_down x + b_down) + b_up, where there is one; gelu in its tanh form."""
    if f"{name}.down.weight" not in w:
        return x
    inner = x @ w[f"{name}.down.weight"].T + w[f"{name}.down.bias"]
    inner = inner / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (inner + 0.044715 * inner**3)))
    return x + inner @ w[f"{name}.up.weight"].T + w[f"{name}.up.bias"]


def norm(w, name, x):
    scale = (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
    return x / scale * w[f"{name}.weight"] + w.get(f"{name}.bias", 0)


def attention(w, name, x, source, bias, heads):
    def split(part, states):
        projected = linear(w, f"{name}.{part}", states)
        return projected.view(*projected.shape[:2], heads, -1).transpose(1, 2)

    scores = split("q", x) @ split("k", source).transpose(2, 3) + bias
    mixed = scores.softmax(-1) @ split("v", source)
    return linear(w, f"{name}.o", mixed.transpose(1, 2).flatten(2))


def feed_forward(w, name, x):
    if f"{name}.wi.weight" in w:
        inner = linear(w, f"{name}.wi", x).relu()
    else:
        inner = functional.gelu(linear(w, f"{name}.wi_0", x), approximate="tanh") * linear(w, f"{name}.wi_1", x)
    return adapter(w, f"{name}.adapter", linear(w, f"{name}.wo", inner))


def block(w, name, x, bias, heads, encoded=None, cross=None):
    normed = norm(w, f"{name}.layer.0.layer_norm", x)
    x = x + attention(w, f"{name}.layer.0.SelfAttention", normed, normed, bias, heads)
    last = 1
    if encoded is not None:
        normed = norm(w, f"{name}.layer.1.layer_norm", x)
        x = x + attention(w, f"{name}.layer.1.EncDecAttention", normed, encoded, cross, heads)
        last = 2
    return x + feed_forward(w, f"{name}.layer.{last}.DenseReluDense", norm(w, f"{name}.layer.{last}.layer_norm", x))


def position_bias(w, stack, length, part):
    """[1, heads, length, length], closed after the own position in the decoder."""
    distance = torch.arange(length)[None, :] - torch.arange(length)[:, None]
    buckets = T5Attention._relative_position_bucket(distance, bidirectional=stack == "encoder", max_distance=128)
    table = next(w[name] for name in w if name.startswith(f"{stack}.") and name.endswith(f"{part}.{BIAS}"))
    bias = table[buckets].permute(2, 0, 1)[None]
    return bias if stack == "encoder" else bias.masked_fill(distance > 0, -1e9)


def losses(w, config, embeddings, mask, targets):
    """The loss of every target piece [rows, length], 0 where it is -100; with a ladder where `w` has one."""
    heads = config.num_heads
    closed = (1 - mask.float())[:, None, None, :] * -1e9
    streams = run_stack(w, "encoder", config.num_layers, embeddings, closed, heads, None, None)
    inputs = torch.cat([torch.zeros(len(targets), 1, dtype=torch.int64), targets[:, :-1].clamp(min=0)], 1)
    decoder_inputs = w["shared.weight"][inputs]
    hidden = run_stack(w, "decoder", config.num_decoder_layers, decoder_inputs, 0.0, heads, streams, closed)
    hidden = hidden[0] if hidden[1] is None else linear(w, "decoder.final_layer_norm.up", hidden[1])
    if "encoder.block.0.layer.1.DenseReluDense.wi.weight" in w:  # T5 v1.0
        hidden = hidden * config.d_model**-0.5
    logits = linear(w, "lm_head", hidden)
    return functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none", ignore_index=-100)


def run_stack(w, stack, layers, embeddings, closed, heads, encoded, cross):
    """Backbone states and side states (None without a ladder) after the final norms."""
    bias = position_bias(w, stack, embeddings.shape[1], "block.0.layer.0") + closed
    encoded, side_encoded = encoded or (None, None)
    x, side = embeddings, None
    if f"{stack}.block.0.entry.down.weight" in w:
        side = linear(w, f"{stack}.block.0.entry.down", x)
        side_bias = position_bias(w, stack, embeddings.shape[1], "rung.side.layer.0") + closed
    for index in range(layers):
        x = block(w, f"{stack}.block.{index}", x, bias, heads, encoded, cross)
        rung = f"{stack}.block.{index}.rung"
        if f"{rung}.gate" in w:
            gate = torch.sigmoid(w[f"{rung}.gate"] / 0.1)
            side = gate * side + (1 - gate) * linear(w, f"{rung}.down", x)
            side = block(w, f"{rung}.side", side, side_bias, heads, side_encoded, cross)
    if side is not None:
        side = norm(w, f"{stack}.final_layer_norm.side_norm", side)
    return norm(w, f"{stack}.final_layer_norm", x), side
