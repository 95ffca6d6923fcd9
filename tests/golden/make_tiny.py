#!/usr/bin/env python3
"""Makes the tiny models, the block samples and what they must answer. Needs requirements.txt, no network, no accelerator.

    python make_tiny.py [--out DIR]        (DIR: where this file lies)

Writes NAME/ (config.json, model.safetensors, tokenizer.json), NAME.gguf, NAME.logits.f32, tiny.json, quant_blocks.json.
Every number comes from a seeded generator: two runs on one machine give the same bytes.
"""

import argparse
import base64
import json
import math
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import gguf
import numpy as np
import safetensors.torch
import tokenizers
import torch
import transformers
from gguf import GGMLQuantizationType as T

import quant_blocks
from tiny_spec import MERGES, SPECS, SPLIT_LLAMA3, SPLIT_QWEN2, STD, TEXTS, Spec

N_IDS = 48


# ---- tokenizer -------------------------------------------------------------------------------------------------------


def byte_alphabet() -> list[str]:
    """The byte-level alphabet: byte -> character (printable Latin-1 stands for itself, the others start at U+0100)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table, spare = [""] * 256, 0x100
    for b in range(256):
        if b in printable:
            table[b] = chr(b)
        else:
            table[b], spare = chr(spare), spare + 1
    return table


def vocabulary(spec: Spec) -> list[str]:
    """Pieces in id order, special tokens last. May be shorter than spec.n_vocab (as Qwen's is)."""
    pieces = byte_alphabet() + [m.replace(" ", "") for m in MERGES] + list(spec.specials)
    if len(set(pieces)) != len(pieces) or len(pieces) > spec.n_vocab:
        raise ValueError(f"{spec.name}: vocabulary has doubles or is too long")
    return pieces


def tokenizer_json(spec: Spec, normalise: bool = True) -> tokenizers.Tokenizer:
    """The tokenizer as the `tokenizers` library understands it. A GGUF cannot ask for normalisation: that is `normalise=False`."""
    pieces = vocabulary(spec)
    first_special = len(pieces) - len(spec.specials)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": spec.pre == "gpt-2"}
    split = {"llama-bpe": SPLIT_LLAMA3, "qwen2": SPLIT_QWEN2}.get(spec.pre)
    pre = byte_level
    if split:
        pattern = {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False}
        pre = {"type": "Sequence", "pretokenizers": [pattern, byte_level]}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    post = None
    if spec.add_bos and spec.bos:
        bos_id = pieces.index(spec.bos)
        first, second = ({"Sequence": {"id": s, "type_id": i}} for i, s in enumerate("AB"))
        bos = [{"SpecialToken": {"id": spec.bos, "type_id": i}} for i in range(2)]
        post = {
            "type": "TemplateProcessing",
            "single": [bos[0], first],
            "pair": [bos[0], first, bos[1], second],
            "special_tokens": {spec.bos: {"id": spec.bos, "ids": [bos_id], "tokens": [spec.bos]}},
        }
    doc = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": first_special + i, "content": s, **flags} for i, s in enumerate(spec.specials)],
        "normalizer": {"type": "NFC"} if normalise and spec.pre == "qwen2" else None,
        "pre_tokenizer": pre,
        "post_processor": post,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": spec.pre == "llama-bpe",
            "vocab": {p: i for i, p in enumerate(pieces[:first_special])},
            "merges": [m.split(" ") for m in MERGES],
        },
    }
    return tokenizers.Tokenizer.from_str(json.dumps(doc))


# ---- weights ---------------------------------------------------------------------------------------------------------

# HF name (with the layer cut out) -> (GGUF name, role in tiny_spec.STD)
NAMES = {
    "model.embed_tokens.weight": ("token_embd.weight", "embed"),
    "model.norm.weight": ("output_norm.weight", "norm"),
    "lm_head.weight": ("output.weight", "lm_head"),
    "input_layernorm.weight": ("attn_norm.weight", "norm"),
    "post_attention_layernorm.weight": ("ffn_norm.weight", "norm"),
    "self_attn.q_proj.weight": ("attn_q.weight", "q"),
    "self_attn.k_proj.weight": ("attn_k.weight", "k"),
    "self_attn.v_proj.weight": ("attn_v.weight", "v"),
    "self_attn.o_proj.weight": ("attn_output.weight", "o"),
    "self_attn.q_proj.bias": ("attn_q.bias", "bias"),
    "self_attn.k_proj.bias": ("attn_k.bias", "bias"),
    "self_attn.v_proj.bias": ("attn_v.bias", "bias"),
    "mlp.gate_proj.weight": ("ffn_gate.weight", "gate"),
    "mlp.up_proj.weight": ("ffn_up.weight", "up"),
    "mlp.down_proj.weight": ("ffn_down.weight", "down"),
}


def split_name(name: str) -> tuple[int | None, str]:
    """`model.layers.1.mlp.up_proj.weight` -> (1, `mlp.up_proj.weight`)."""
    found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name)
    return (int(found[1]), found[2]) if found else (None, name)


def hf_config(spec: Spec) -> transformers.PretrainedConfig:
    """HF's configuration of the model."""
    pieces = vocabulary(spec)
    rope = {"rope_type": "default", "rope_theta": spec.rope_theta}
    if spec.rope_scaling:
        rope.update(spec.rope_scaling)
    common = dict(
        vocab_size=spec.n_vocab,
        hidden_size=spec.d_model,
        intermediate_size=spec.d_ff,
        num_hidden_layers=spec.n_layers,
        num_attention_heads=spec.n_heads,
        num_key_value_heads=spec.n_kv_heads,
        head_dim=spec.d_head,
        max_position_embeddings=spec.n_ctx,
        rms_norm_eps=spec.rms_eps,
        rope_parameters=rope,
        tie_word_embeddings=spec.tied,
        bos_token_id=pieces.index(spec.bos) if spec.bos else None,
        eos_token_id=pieces.index(spec.eos),
        pad_token_id=None,
        attn_implementation="eager",
        dtype="float32",
    )
    kind = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config}[spec.family]
    return kind(**common)


def random_weights(spec: Spec, model: torch.nn.Module) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, np.ndarray]]]:
    """Values for every parameter, exact in f16 (or exactly what a block decodes to), and the raw blocks where there are any."""
    rng = np.random.default_rng(spec.seed)
    values, blocks = {}, {}
    for name, parameter in model.named_parameters():
        layer, rest = split_name(name)
        role = NAMES[rest][1]
        std = spec.std.get(role, STD[role])
        quant = None
        if spec.quants is not None and parameter.ndim == 2:
            quant = spec.quants[layer or 0].get(role)
        if quant:
            raw = quant_blocks.random_rows(rng, quant, *parameter.shape, std)
            blocks[name] = (quant, raw)
            values[name] = quant_blocks.decode(raw, quant).reshape(parameter.shape)
            continue
        x = rng.standard_normal(tuple(parameter.shape)) * std + (1.0 if role == "norm" else 0.0)
        values[name] = x.astype(np.float16).astype(np.float32)
    return values, blocks


def build(spec: Spec) -> tuple[torch.nn.Module, dict[str, np.ndarray], dict[str, tuple[str, np.ndarray]]]:
    """The HF model in float32 with our weights in it."""
    model = transformers.AutoModelForCausalLM.from_config(hf_config(spec), attn_implementation="eager").float().eval()
    values, blocks = random_weights(spec, model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(values[name]))
    return model, values, blocks


# ---- files -----------------------------------------------------------------------------------------------------------


def old_config(config: dict) -> dict:
    """The same config.json as transformers 4 spells it: rope_theta at the top, rope_scaling apart, torch_dtype."""
    old = {k: v for k, v in config.items() if k not in ("rope_parameters", "dtype")}
    rope = dict(config["rope_parameters"])
    old["rope_theta"] = rope.pop("rope_theta")
    old["rope_scaling"] = None if rope.get("rope_type") == "default" else rope
    old["torch_dtype"] = config["dtype"]
    old["transformers_version"] = "4.46.0"
    return dict(sorted(old.items()))


def write_hf(spec: Spec, folder: Path, model: torch.nn.Module, values: dict[str, np.ndarray]) -> None:
    """config.json as transformers writes it, the older spelling beside it, F16 safetensors, tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.dtype = "float16"
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    model.config.dtype = "float32"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.v4.json").write_text(json.dumps(old_config(config), indent=2) + "\n")
    tensors = {k: torch.from_numpy(v).to(torch.float16) for k, v in sorted(values.items())}
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    (folder / "tokenizer.json").write_text(compact_tokenizer(tokenizer_json(spec)))
    tok_config = {
        "add_bos_token": spec.add_bos,
        "add_prefix_space": False,
        "bos_token": spec.bos,
        "chat_template": spec.chat_template,
        "clean_up_tokenization_spaces": False,
        "eos_token": spec.eos,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    kept = {k: v for k, v in tok_config.items() if v is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(kept, indent=2) + "\n")


def compact_tokenizer(tokenizer: tokenizers.Tokenizer) -> str:
    """As the library serialises it, but on lines that a diff can show."""
    doc = json.loads(tokenizer.to_str())
    head = json.dumps({k: v for k, v in doc.items() if k != "model"}, ensure_ascii=False, indent=1)
    return head[:-2] + ',\n "model": ' + json.dumps(doc["model"], ensure_ascii=False, separators=(",", ":")) + "\n}\n"


def permute(w: np.ndarray, n_heads: int) -> np.ndarray:
    """HF's rotate-half order of rows to the interleaved order that GGUF's llama architecture expects. [heads * d_head, ...]"""
    return w.reshape(n_heads, 2, w.shape[0] // n_heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def rope_factors(spec: Spec) -> np.ndarray:
    """rope_freqs.weight: what each frequency is divided by under llama3 scaling. [d_head / 2]"""
    s = spec.rope_scaling or {}
    low, high, factor = s["low_freq_factor"], s["high_freq_factor"], s["factor"]
    original = s["original_max_position_embeddings"]
    out = []
    for i in range(0, spec.d_head, 2):
        wavelength = 2 * math.pi * spec.rope_theta ** (i / spec.d_head)
        if wavelength < original / high:
            out.append(1.0)
        elif wavelength > original / low:
            out.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            out.append(1.0 / ((1.0 - smooth) / factor + smooth))
    return np.array(out, dtype=np.float32)


def add_vocabulary(w: gguf.GGUFWriter, spec: Spec) -> None:
    """The tokenizer.* keys."""
    pieces = vocabulary(spec)
    normal = len(pieces) - len(spec.specials)
    unused = [f"[PAD{i}]" for i in range(len(pieces), spec.n_vocab)]
    kinds = [gguf.TokenType.NORMAL] * normal + [gguf.TokenType.CONTROL] * len(spec.specials)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(spec.pre)
    w.add_token_list(pieces + unused)
    w.add_token_types(kinds + [gguf.TokenType.UNUSED] * len(unused))
    w.add_token_merges(MERGES)
    w.add_eos_token_id(pieces.index(spec.eos))
    if spec.bos:
        w.add_bos_token_id(pieces.index(spec.bos))
    w.add_add_bos_token(spec.add_bos)
    if spec.chat_template:
        w.add_chat_template(spec.chat_template)


def add_parameters(w: gguf.GGUFWriter, spec: Spec, file_type: gguf.LlamaFileType) -> None:
    """The general.* and architecture keys."""
    w.add_type(gguf.GGUFType.MODEL)
    w.add_name(spec.name)
    w.add_license("apache-2.0")
    w.add_block_count(spec.n_layers)
    w.add_context_length(spec.n_ctx)
    w.add_embedding_length(spec.d_model)
    w.add_feed_forward_length(spec.d_ff)
    w.add_head_count(spec.n_heads)
    w.add_head_count_kv(spec.n_kv_heads)
    w.add_rope_freq_base(spec.rope_theta)
    w.add_layer_norm_rms_eps(spec.rms_eps)
    w.add_key_length(spec.d_head)
    w.add_value_length(spec.d_head)
    w.add_file_type(file_type)
    w.add_vocab_size(spec.n_vocab)
    w.add_rope_dimension_count(spec.d_head)


def write_gguf(spec: Spec, path: Path, values: dict[str, np.ndarray], blocks: dict, matrix_type: np.dtype = np.dtype("<f2")) -> None:
    """The same weights as GGUF: matrices F16 (or the spec's blocks), vectors F32."""
    w = gguf.GGUFWriter(path, spec.family)
    kind = gguf.LlamaFileType.MOSTLY_Q4_K_M if blocks else gguf.LlamaFileType.MOSTLY_F16
    if not blocks and matrix_type == np.dtype("<f4"):
        kind = gguf.LlamaFileType.ALL_F32
    add_parameters(w, spec, kind)
    add_vocabulary(w, spec)
    if blocks:
        w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for name, value in values.items():
        layer, rest = split_name(name)
        target, role = NAMES[rest]
        target = target if layer is None else f"blk.{layer}.{target}"
        heads = {"attn_q.": spec.n_heads, "attn_k.": spec.n_kv_heads}.get(NAMES[rest][0][:7]) if spec.family == "llama" else None
        if name in blocks:
            quant, raw = blocks[name]
            raw = permute(raw, heads) if heads else raw
            w.add_tensor(target, np.ascontiguousarray(raw), raw_dtype=T[quant])
            continue
        value = permute(value, heads) if heads else value
        w.add_tensor(target, np.ascontiguousarray(value.astype(matrix_type if value.ndim == 2 else "<f4")))
    if spec.rope_scaling:
        w.add_tensor("rope_freqs.weight", rope_factors(spec))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# ---- answers ---------------------------------------------------------------------------------------------------------


def prompt_ids(spec: Spec) -> list[int]:
    """The ids the logits are for: real text first, then ids from all over the vocabulary, some twice in a row."""
    text = tokenizer_json(spec).encode("def f(self):\n    return 12\n", add_special_tokens=False).ids
    rng = np.random.default_rng(spec.seed + 1000)
    rest = [int(i) for i in rng.integers(0, spec.n_vocab, N_IDS)]
    ids = (text + [0, spec.n_vocab - 1, 7, 7] + rest)[:N_IDS]
    return ids


def tokenised(spec: Spec) -> list[dict]:
    """TEXTS with their ids, no special tokens added; `ids_nfc` where tokenizer.json (which may normalise) says otherwise than the GGUF."""
    plain, normalising = tokenizer_json(spec, normalise=False), tokenizer_json(spec)
    rows = []
    for text in TEXTS:
        row = {"text": text, "ids": plain.encode(text, add_special_tokens=False).ids}
        nfc = normalising.encode(text, add_special_tokens=False).ids
        rows.append(row if nfc == row["ids"] else {**row, "ids_nfc": nfc})
    return rows


def answer(model: torch.nn.Module, ids: list[int]) -> np.ndarray:
    """HF's float32 logits. [n_ids, n_vocab]"""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].numpy().astype("<f4")


def make_model(spec: Spec, out: Path) -> dict:
    """Writes one model's files and returns its entry of tiny.json."""
    model, values, blocks = build(spec)
    files = {"gguf": f"{spec.name}.gguf", "logits": f"{spec.name}.logits.f32"}
    if not blocks:
        write_hf(spec, out / spec.name, model, values)
        files.update(folder=spec.name)
    write_gguf(spec, out / files["gguf"], values, blocks)
    ids = prompt_ids(spec)
    logits = answer(model, ids)
    (out / files["logits"]).write_bytes(logits.tobytes())
    return {
        "name": spec.name,
        "family": spec.family,
        "files": files,
        "ids": ids,
        "shape": list(logits.shape),
        "std_of_logits": round(float(logits.std()), 4),
        "tokenize": {"add_bos": spec.add_bos, "texts": tokenised(spec)},
        "weight_types": sorted({t for t, _ in blocks.values()} | {"F32"}) if blocks else ["F16", "F32"],
    }


def make_blocks() -> dict:
    """Blocks of every type as base64, and what gguf-py decodes them to as base64 of little-endian f32."""
    rng = np.random.default_rng(7)
    rows = []
    for name in quant_blocks.TYPES:
        raw = quant_blocks.sample(rng, name)
        elements, size = quant_blocks.block(name)
        values = quant_blocks.decode(raw, name)
        if values.shape != (raw.shape[0], elements) or not np.isfinite(values).all():
            raise ValueError(f"{name}: decoded to {values.shape}, or not finite")
        rows.append({
            "type": name,
            "block_len": elements,
            "block_bytes": size,
            "n_blocks": raw.shape[0],
            "blocks_b64": base64.b64encode(raw.tobytes()).decode(),
            "values_f32_b64": base64.b64encode(values.astype("<f4").tobytes()).decode(),
        })
    return {"made_with": f"gguf {gguf_version()}", "types": rows}


def gguf_version() -> str:
    from importlib.metadata import version

    return version("gguf")


def main() -> int:
    here = Path(__file__).resolve().parent
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--out", type=Path, default=here, help="folder to write to")
    out = args.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    models = [make_model(spec, out) for spec in SPECS]
    index = {
        "made_with": {
            "transformers": transformers.__version__,
            "torch": torch.__version__.split("+")[0],
            "tokenizers": tokenizers.__version__,
            "gguf": gguf_version(),
            "attention": "eager, float32",
        },
        "logits_layout": "little-endian f32, [position][token id]",
        "models": models,
    }
    text = json.dumps(index, ensure_ascii=False, indent=1)
    text = re.sub(r"\[[\s\d,]*\]", lambda m: "[" + " ".join(m[0][1:-1].split()) + "]", text)  # a list of ids stays on one line
    if json.loads(text) != index:
        raise ValueError("tidying changed the document")
    (out / "tiny.json").write_text(text + "\n")
    (out / "quant_blocks.json").write_text(json.dumps(make_blocks(), indent=1) + "\n")
    total = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"wrote {len(models)} models, {len(quant_blocks.TYPES)} block types; {out} now holds {total / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
