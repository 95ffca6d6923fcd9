"""What the tiny models are: shapes, vocabularies, pre-tokenizers, prompts. Data only; make_tiny.py turns it into files."""

from dataclasses import dataclass, field

# The splitting patterns that each pre-tokenizer name stands for, as tokenizer.json files of those families spell them.
SPLIT_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLIT_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Merges in rank order, in the byte-level alphabet (Ġ is a space, Ċ a newline). Ranks are chosen so that greedy longest
# match and ranked merging give different answers ("return": r+e wins before e+t).
MERGES = [
    "Ġ Ġ", "ĠĠ ĠĠ", "i n", "r e", "e r", "o n", "t u", "re t", "ret u", "r n", "retu rn", "f n", "Ġ =",
    "d e", "de f", "s e", "se l", "sel f", "( )", "Ċ Ċ", "Ġ i", "Ġi f", "l e", "1 2",
]

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

# Tokenised with both containers' tokenizers; the ids are recorded. Ours, all of it.
TEXTS = [
    "",
    " ",
    "def f(self):\n    return 12\n\n",
    "fn main() {\n\tlet x = 1234567890;\n}\r\n",
    "if a  =  b:   # three   spaces",
    "naïve café — 漢字 🦀 \u200d e\u0301",
    "don't DON'T we'LL",
    "\n\n\n  \n\t\t x",
    "return return1 _return returns",
]


@dataclass(frozen=True)
class Spec:
    """One tiny model."""

    name: str
    family: str  # HF model_type
    seed: int
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_ff: int
    tied: bool
    pre: str  # tokenizer.ggml.pre
    specials: tuple[str, ...]
    bos: str | None
    eos: str
    n_vocab: int = 288
    n_ctx: int = 128
    rms_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_scaling: dict | None = None
    qkv_bias: bool = False
    add_bos: bool = False
    chat_template: str | None = None
    std: dict = field(default_factory=dict)  # tensor role -> standard deviation, over STD
    quants: tuple[dict, ...] | None = None  # per layer: role -> GGUF type; such a model exists as GGUF only


# Weights are large enough for attention to be far from uniform and for the logits to spread over several nats.
STD = {"embed": 0.5, "lm_head": 0.3, "q": 0.2, "k": 0.2, "v": 0.2, "o": 0.2, "gate": 0.2, "up": 0.2, "down": 0.2, "norm": 0.2, "bias": 0.5}

LLAMA_SPECIALS = ("<|begin|>", "<|end|>", "<|sep|>", "<|r0|>", "<|r1|>", "<|r2|>", "<|r3|>", "<|r4|>")
QWEN_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")

SPECS = [
    Spec(
        name="tiny-llama", family="llama", seed=101,
        d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, d_head=16, d_ff=96, tied=False,
        pre="gpt-2", specials=LLAMA_SPECIALS, bos="<|begin|>", eos="<|end|>",
    ),
    # The 8 wavelengths run 6.3, 11, 20, 35 .. 353 positions. Against an original context of 32 the first is kept,
    # two are blended and the rest stretched eightfold, all within the 48 positions tested.
    Spec(
        name="tiny-llama3-rope", family="llama", seed=102,
        d_model=48, n_layers=2, n_heads=3, n_kv_heads=1, d_head=16, d_ff=80, tied=True,
        pre="llama-bpe", specials=LLAMA_SPECIALS, bos="<|begin|>", eos="<|end|>", add_bos=True,
        rope_theta=100.0,
        rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
    ),
    Spec(
        name="tiny-qwen2", family="qwen2", seed=103,
        d_model=48, n_layers=2, n_heads=3, n_kv_heads=1, d_head=16, d_ff=80, tied=True,
        pre="qwen2", specials=QWEN_SPECIALS, bos=None, eos="<|im_end|>",
        rms_eps=1e-6, rope_theta=1000000.0, qkv_bias=True, chat_template=CHAT_TEMPLATE,
    ),
    # Every block format inside one model. The weights *are* random blocks; the reference runs on what they decode to.
    # Heads do not add up to d_model (2 * 32 != 256), so key_length is not to be guessed.
    Spec(
        name="tiny-quants", family="llama", seed=104,
        d_model=256, n_layers=2, n_heads=2, n_kv_heads=1, d_head=32, d_ff=64, tied=True,
        pre="gpt-2", specials=LLAMA_SPECIALS, bos="<|begin|>", eos="<|end|>",
        std={"embed": 0.3, "q": 0.08, "k": 0.08, "v": 0.1, "gate": 0.08, "up": 0.08},
        quants=(
            {"embed": "Q6_K", "q": "Q4_K", "k": "Q5_K", "v": "Q6_K", "o": "Q4_0", "gate": "Q2_K", "up": "Q3_K", "down": "Q5_0"},
            {"q": "Q3_K", "k": "Q8_0", "v": "BF16", "o": "Q5_1", "gate": "Q4_K", "up": "Q5_K", "down": "Q4_1"},
        ),
    ),
]
