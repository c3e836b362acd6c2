"""Operations of a training step, counted from the shapes."""

from ept.backbones.t5_config import T5Config


def step_flops(config: T5Config, rows: int, positions: int, target_length: int, target_pieces: int) -> int:
    """Multiplications and additions in the matrix products of forward and backward over a frozen T5 v1.0.

    `rows` x `positions` at the encoder's input, prompt and padding included; `target_length` positions a row in the
    decoder, fewer than a head is wide (cross-attention then makes no keys and values: ept.backbones.t5);
    `target_pieces` rows of the output head in all. A frozen matrix costs one product forward and one backward; a
    product of two activations, inside attention, costs two backward. Nothing before the decoder's first cross-attention
    is trained, so that it needs no gradient. The pack's own products are left out: they are thousands of times smaller.
    """
    hidden, inner = config.d_model, config.num_heads * config.d_kv
    encoder_rows, decoder_rows = rows * positions, rows * target_length
    feed_forward = 2 * hidden * config.d_ff
    projection = hidden * inner
    frozen = config.num_layers * encoder_rows * (4 * projection + feed_forward)
    frozen += config.num_decoder_layers * decoder_rows * (8 * projection + feed_forward)
    frozen += target_pieces * hidden * config.vocab_size
    within_encoder = 2 * inner * rows * positions**2
    within_decoder = 2 * inner * rows * target_length**2
    across = 2 * config.num_heads * hidden * decoder_rows * positions
    attention = config.num_layers * within_encoder + config.num_decoder_layers * (within_decoder + across)
    # Of the decoder's first layer: all of self-attention, and the queries that cross-attention takes from it.
    unneeded = decoder_rows * 6 * projection + 2 * within_decoder + across // 2
    return 2 * (2 * frozen + 3 * attention - unneeded)
