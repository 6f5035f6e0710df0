"""A llama model with random weights, small enough to be written rather than downloaded.

Width 64, 2 layers, some 450 tokens, float32: about 1 MB. What it says means nothing, but a real
llama.cpp loads it, samples from it and streams it as it does any other model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

WIDTH = 64
LAYERS = 2
HEADS = 4
FEED_FORWARD = 384
CONTEXT = 32_768
SEED = 20_240_117

# Dimension 0 of every embedding is BIAS and no layer writes to it, so a row of the output matrix
# that holds a number there alone gives the same logit whatever the context.
BIAS = 4.0
SILENCE = -200.0

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)

_UNKNOWN, _CONTROL, _NORMAL, _BYTE = 2, 3, 1, 6  # llama.cpp's token types
_SPECIALS = ("<unk>", "<s>", "</s>")
_CHARACTERS = (
    " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?'\"()[]{}<>|/-_+=*#@&%"
)
_PROSE = (
    "the a of and to in on by with from under over near past through into water sea tide wave reef "
    "shark fish fin gill tail current salt sand shell coral kelp deep blue green dark light slow "
    "quick small great old young one two three many few swims rides turns waits finds holds sees "
    "follows carries brings leaves gives takes keeps moves rests rises falls drifts it she he they "
    "we who that this then when where still again always never often along below above between"
)
WORDS = _PROSE.split()


def write_model(path: Path | str) -> None:
    """Write the model to `path`. The bytes are the same on each run.

    Its text is words, so always valid UTF-8; it never ends by itself, so the
    request's `max_tokens` decides.
    """
    import numpy as np
    from gguf import GGUFWriter

    tokens, types = _vocabulary()
    size = len(tokens)
    # The legacy generator: numpy promises that its stream never changes.
    random = np.random.RandomState(SEED)

    def matrix(rows: int, columns: int, scale: float) -> Any:
        return (random.standard_normal((rows, columns)) * scale).astype(np.float32)

    writer = GGUFWriter(str(path), "llama")
    try:
        writer.add_name("remora-demo")
        writer.add_context_length(CONTEXT)
        writer.add_embedding_length(WIDTH)
        writer.add_block_count(LAYERS)
        writer.add_feed_forward_length(FEED_FORWARD)
        writer.add_head_count(HEADS)
        writer.add_head_count_kv(HEADS)
        writer.add_rope_dimension_count(WIDTH // HEADS)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_vocab_size(size)
        writer.add_tokenizer_model("llama")
        writer.add_token_list(tokens)
        writer.add_token_scores([-float(index) for index in range(size)])
        writer.add_token_types(types)
        writer.add_unk_token_id(0)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_bos_token(True)
        writer.add_add_eos_token(False)
        writer.add_chat_template(CHAT_TEMPLATE)

        embedding = matrix(size, WIDTH, 1.0)
        embedding[:, 0] = BIAS
        writer.add_tensor("token_embd.weight", embedding)
        ones = np.ones(WIDTH, dtype=np.float32)
        inward, outward = WIDTH**-0.5, 1.5 * WIDTH**-0.5
        for layer in range(LAYERS):
            block = f"blk.{layer}."
            writer.add_tensor(block + "attn_norm.weight", ones)
            for name in ("attn_q", "attn_k", "attn_v"):
                writer.add_tensor(f"{block}{name}.weight", matrix(WIDTH, WIDTH, inward))
            writer.add_tensor(
                block + "attn_output.weight", _unbiased(matrix(WIDTH, WIDTH, outward))
            )
            writer.add_tensor(block + "ffn_norm.weight", ones)
            for name in ("ffn_gate", "ffn_up"):
                writer.add_tensor(f"{block}{name}.weight", matrix(FEED_FORWARD, WIDTH, inward))
            down = _unbiased(matrix(WIDTH, FEED_FORWARD, FEED_FORWARD**-0.5))
            writer.add_tensor(block + "ffn_down.weight", down)
        writer.add_tensor("output_norm.weight", ones)

        output = np.zeros((size, WIDTH), dtype=np.float32)
        output[:, 0] = SILENCE
        # A word calls for the next on one ring of all words, and the layers' noise makes it leap:
        # random rows alone soon say the same two words for ever.
        ring = random.permutation([tokens.index("▁" + word) for word in WORDS])
        output[np.roll(ring, -1)] = embedding[ring]
        output[ring, 0] = 0.0
        writer.add_tensor("output.weight", output)

        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _vocabulary() -> tuple[list[str], list[int]]:
    """Specials, the 256 bytes that the tokenizer falls back to, characters, then words."""
    tokens = list(_SPECIALS)
    types = [_UNKNOWN, _CONTROL, _CONTROL]
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    types += [_BYTE] * 256
    pieces = dict.fromkeys(character.replace(" ", "▁") for character in _CHARACTERS)
    pieces.update(dict.fromkeys("▁" + word for word in WORDS))
    return tokens + list(pieces), types + [_NORMAL] * len(pieces)


def _unbiased(matrix: Any) -> Any:
    """`matrix` with nothing written to dimension 0."""
    matrix[0] = 0.0
    return matrix
