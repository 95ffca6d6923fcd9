#!/usr/bin/env python3
"""Records what llama.cpp answers on a real GGUF, as a small JSON. Needs requirements-llamacpp.txt and the model files.

    python make_llamacpp.py qwen2.5-coder-0.5b=PATH.gguf smollm2-135m=PATH.gguf [--exact] [--lib-dir DIR] [--out DIR]

--lib-dir: shared libraries of a llama.cpp that is built already (its version must be the binding's); else the installed ones.
Writes NAME.llamacpp.json. Runs with 2 threads, CPU, f16 KV, everything else at llama.cpp's defaults.
Answers differ slightly between instruction sets, so another machine gives another last digit: compare, do not demand bits.
"""

import argparse
import base64
import ctypes
import hashlib
import json
import os
import platform
import re
import sys
import tempfile
from pathlib import Path

import jinja2.sandbox
import numpy as np

WINDOW = 2048
N_TOP = 256
TOP_K = 8
N_GREEDY = 64
N_EXACT = 1024
N_THREADS = 2

CODE_PROMPTS = [
    "def fibonacci(n):\n    ",
    "use std::collections::HashMap;\n\n/// Counts how often each word occurs.\nfn word_counts(text: &str) -> HashMap<String, usize> {\n",
    "function debounce(callback, delayMs) {\n  let timer = null;\n",
]
CHAT = [
    {"role": "system", "content": "You are a careful programmer. Answer with code only."},
    {"role": "user", "content": "Write a Python function that reverses a linked list."},
]
FIM_PREFIX = "def mean(values):\n    total = 0\n    for v in values:\n        "
FIM_SUFFIX = "\n    return total / len(values)\n"
TRICKY = [
    "for(int i=0;i<10;++i){a[i]+=b[i]*0x1F;}",
    "\tif x:\n\t\treturn\r\n\r\n    # mixed\ttabs",
    "              deeply_indented_call(  arg )      ",
    "let s = \"naïve café — 漢字\"; // 🦀👩‍💻 e\u0301",
    "1234567890 3.14159e-10 0b1010_1010 1_000_000",
    "don't I'LL we'Ve it's 'quoted' ''''",
    "camelCaseIdentifier snake_case_identifier SCREAMING_CASE __dunder__",
    "\n\n\n\n   \n \n}\n",
    "a\u00a0b\u2003c\u200bd\u3000e\ufeff",
    "<|im_start|>user\nis text here<|im_end|><|endoftext|>",
]


def load_bindings(lib_dir: Path | None):
    """llama_cpp's low-level ctypes module, over the given libraries if any."""
    if lib_dir:
        os.environ["LLAMA_CPP_LIB_PATH"] = str(lib_dir)
    import llama_cpp

    return llama_cpp


class Model:
    """One loaded GGUF and one context of WINDOW tokens."""

    def __init__(self, lib, path: Path, exact: bool = False):
        """`exact`: f32 KV and no flash attention, for weights that are f32 already."""
        self.lib = lib
        params = lib.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = lib.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise SystemExit(f"llama.cpp could not load {path}")
        c = lib.llama_context_default_params()
        c.n_ctx = WINDOW
        c.n_batch = 512
        c.n_threads = c.n_threads_batch = N_THREADS
        if exact:
            c.type_k = c.type_v = 0
            c.flash_attn_type = 0
        self.ctx = lib.llama_init_from_model(self.model, c)
        self.settings = {"n_ctx": WINDOW, "n_batch": c.n_batch, "n_ubatch": c.n_ubatch, "n_threads": N_THREADS, "type_k": c.type_k, "type_v": c.type_v, "flash_attn_type": c.flash_attn_type}
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.n_vocab = lib.llama_vocab_n_tokens(self.vocab)

    def free(self) -> None:
        self.lib.llama_free(self.ctx)
        self.lib.llama_model_free(self.model)

    def reset(self) -> None:
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.ctx), True)

    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        raw = text.encode()
        room = len(raw) + 16
        out = (ctypes.c_int32 * room)()
        n = self.lib.llama_tokenize(self.vocab, raw, len(raw), out, room, add_special, parse_special)
        if n < 0:
            raise SystemExit(f"llama.cpp could not tokenise {text[:40]!r}")
        return list(out[:n])

    def pieces(self, ids: list[int]) -> bytes:
        out = b""
        for i in ids:
            buf = ctypes.create_string_buffer(256)
            n = self.lib.llama_token_to_piece(self.vocab, i, buf, 256, 0, True)
            out += buf.raw[: max(n, 0)]
        return out

    def metadata(self, key: str) -> str | None:
        buf = ctypes.create_string_buffer(1 << 20)
        n = self.lib.llama_model_meta_val_str(self.model, key.encode(), buf, len(buf))
        return None if n < 0 else buf.value.decode()

    def decode(self, ids: list[int], at: int, every: bool) -> np.ndarray:
        """Runs `ids` from position `at`; logits [n, n_vocab] of all of them, or [1, n_vocab] of the last."""
        n = len(ids)
        batch = self.lib.llama_batch_init(n, 0, 1)
        batch.n_tokens = n
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, at + i, 1, 0
            batch.logits[i] = every or i == n - 1
        status = self.lib.llama_decode(self.ctx, batch)
        self.lib.llama_batch_free(batch)
        if status != 0:
            raise SystemExit(f"llama_decode answered {status}")
        rows = n if every else 1
        flat = np.ctypeslib.as_array(self.lib.llama_get_logits(self.ctx), (rows * self.n_vocab,))
        return flat.reshape(rows, self.n_vocab).copy()

    def greedy(self, ids: list[int], n: int) -> tuple[list[int], list[float]]:
        """Up to n tokens, lowest id on a tie, ended by an end-of-generation token (which is included).
        And by how much each beat the second choice, in logits: a small lead is where another engine may rightly part ways."""
        self.reset()
        logits, at, out, leads = self.decode(ids, 0, every=False), len(ids), [], []
        while len(out) < n:
            second, first = np.partition(logits[0], -2)[-2:]
            token = int(logits[0].argmax())
            out.append(token)
            leads.append(round(float(first - second), 3))
            if self.lib.llama_vocab_is_eog(self.vocab, token):
                break
            logits = self.decode([token], at, every=False)
            at += 1
        return out, leads


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def b64(values, dtype: str) -> str:
    return base64.b64encode(np.asarray(values, dtype=dtype).tobytes()).decode()


class Scores:
    """What a model said about a text, token by token."""

    def __init__(self, m: Model, ids: list[int]):
        """Windows of WINDOW tokens, each from empty KV; NLL of every token of a window but its first."""
        self.nll: list[float] = []
        self.top1: list[int] = []
        first = []
        for start in range(0, len(ids), WINDOW):
            window = ids[start : start + WINDOW]
            m.reset()
            for at in range(0, len(window), 512):
                logprobs = log_softmax(m.decode(window[at : at + 512], at, every=True))
                self.top1 += logprobs.argmax(axis=-1).tolist()
                self.nll += [-float(row[target]) for row, target in zip(logprobs, window[at + 1 : at + 513])]
                if start + at < N_TOP:
                    first.append(logprobs[: N_TOP - start - at])
        self.first = np.concatenate(first)  # [N_TOP, n_vocab]

    def pack(self, n: int | None = None) -> dict:
        """As recorded; arrays cut to the first `n` positions of the first window."""
        nll, top1 = self.nll, self.top1
        best = np.argsort(-self.first, axis=-1, kind="stable")[:, :TOP_K]
        return {
            "n_predicted": len(nll),
            "perplexity": round(float(np.exp(np.mean(nll))), 6),
            "mean_nll": round(float(np.mean(nll)), 8),
            "nll_f32_b64": b64(np.round(nll[: n and n - 1], 6), "<f4"),
            "top1_u32_b64": b64(top1[:n], "<u4"),
            "first_positions": {
                "n": len(best),
                "k": TOP_K,
                "ids_u32_b64": b64(best, "<u4"),
                "logprobs_f32_b64": b64(np.round(np.take_along_axis(self.first, best, axis=-1), 6), "<f4"),
            },
        }

    def against(self, exact: "Scores") -> dict:
        """How far these lie from the exact ones: the price of quantised activations and f16 KV in llama.cpp."""
        agree = np.mean(np.array(self.top1) == np.array(exact.top1))
        kl = (np.exp(exact.first) * (exact.first - self.first)).sum(axis=-1)
        return {"top1_agreement": round(float(agree), 5), "kl_mean_first_positions": round(float(kl.mean()), 6), "kl_max_first_positions": round(float(kl.max()), 6)}


def chat_prompt(m: Model) -> str | None:
    """CHAT through the template in the file, rendered as HF does (trim_blocks, lstrip_blocks, sandbox)."""
    source = m.metadata("tokenizer.chat_template")
    if source is None:
        return None
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def token_text(i: int) -> str:
        return m.pieces([i]).decode() if i >= 0 else ""

    return env.from_string(source).render(
        messages=CHAT,
        add_generation_prompt=True,
        bos_token=token_text(m.lib.llama_vocab_bos(m.vocab)),
        eos_token=token_text(m.lib.llama_vocab_eos(m.vocab)),
    )


def greedy_rows(m: Model) -> list[dict]:
    """Greedy continuations of the code prompts and of the chat prompt."""
    prompts = [("text", p) for p in CODE_PROMPTS]
    chat = chat_prompt(m)
    if chat is not None:
        prompts.append(("chat", chat))
    rows = []
    for kind, prompt in prompts:
        ids = m.tokenize(prompt, add_special=True, parse_special=kind == "chat")
        out, leads = m.greedy(ids, N_GREEDY)
        rows.append({"kind": kind, "prompt": prompt, "prompt_ids": ids, "ids": out, "leads": leads, "text": m.pieces(out).decode(errors="replace")})
    return rows


def fim(m: Model) -> dict | None:
    """Fill-in-the-middle: prefix token, prefix, suffix token, suffix, middle token; and what the model puts there."""
    names = ("pre", "suf", "mid", "pad", "rep", "sep")
    special = {n: int(getattr(m.lib, f"llama_vocab_fim_{n}")(m.vocab)) for n in names}
    if min(special["pre"], special["suf"], special["mid"]) < 0:
        return None
    plain = lambda text: m.tokenize(text, add_special=False, parse_special=False)
    ids = [special["pre"], *plain(FIM_PREFIX), special["suf"], *plain(FIM_SUFFIX), special["mid"]]
    out, leads = m.greedy(ids, 32)
    return {
        "special": {k: v for k, v in special.items() if v >= 0},
        "prefix": FIM_PREFIX,
        "suffix": FIM_SUFFIX,
        "prompt_ids": ids,
        "ids": out,
        "leads": leads,
        "text": m.pieces(out).decode(errors="replace"),
    }


def tidy_json(doc: dict) -> str:
    """Indented, but a list of numbers stays on one line."""
    text = json.dumps(doc, ensure_ascii=False, indent=1)
    text = re.sub(r"\[[\s\d.,e+-]*\]", lambda m: "[" + " ".join(m[0][1:-1].split()) + "]", text)
    if json.loads(text) != doc:
        raise SystemExit("tidying changed the document")
    return text + "\n"


def sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def isa() -> str:
    """The instruction sets that matter to the last digit, where the system tells."""
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")).split()
    except (OSError, StopIteration):
        return platform.machine()
    known = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
    return " ".join([platform.machine(), *(f for f in known if f in flags)])


def decoded_to_f32(path: Path, target: Path) -> None:
    """The same GGUF with every weight as f32."""
    import gguf

    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(target, reader.get_field("general.architecture").contents())
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        writer.add_key_value(key, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for t in reader.tensors:
        writer.add_tensor(t.name, gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def exact_part(lib, path: Path, ids: list[int], usual: Scores) -> dict:
    """The sample with every weight decoded to f32, f32 activations and f32 KV: no rounding but f32's own."""
    with tempfile.TemporaryDirectory() as folder:
        f32 = Path(folder) / "f32.gguf"
        decoded_to_f32(path, f32)
        m = Model(lib, f32, exact=True)
        scores = Scores(m, ids)
        m.free()
    return {"n_recorded": N_EXACT, **scores.pack(N_EXACT), "llamacpp_against_exact": usual.against(scores)}


def record(lib, name: str, path: Path, sample: Path, exact: bool) -> dict:
    m = Model(lib, path)
    text = sample.read_text(encoding="utf-8")
    ids = m.tokenize(text, add_special=True, parse_special=False)
    eog = [i for i in range(m.n_vocab) if lib.llama_vocab_is_eog(m.vocab, i)]
    scores = Scores(m, ids)
    doc = {
        "name": name,
        "model_sha256": sha256(path),
        "made_with": {"llama_cpp_python": lib.__version__, "cpu": isa(), "settings": m.settings},
        "n_vocab": m.n_vocab,
        "vocab": {
            "bos": lib.llama_vocab_bos(m.vocab),
            "eos": lib.llama_vocab_eos(m.vocab),
            "eot": lib.llama_vocab_eot(m.vocab),
            "add_bos": bool(lib.llama_vocab_get_add_bos(m.vocab)),
            "add_eos": bool(lib.llama_vocab_get_add_eos(m.vocab)),
            "end_of_generation": eog,
        },
        "sample": {"file": sample.name, "sha256": sha256(sample), "n_ids": len(ids), "ids_u32_b64": b64(ids, "<u4")},
        "code": {"window": WINDOW, **scores.pack()},
        "greedy": greedy_rows(m),
        "tokenize": [{"text": t, "ids": m.tokenize(t, False, False), "ids_special": m.tokenize(t, False, True)} for t in TRICKY],
        "fim": fim(m),
    }
    m.free()
    if exact:
        doc["exact"] = exact_part(lib, path, ids, scores)
    return doc


def main() -> int:
    here = Path(__file__).resolve().parent
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("models", nargs="+", metavar="NAME=PATH", help="model name in the catalogue and its GGUF")
    args.add_argument("--lib-dir", type=Path, help="folder with libllama and libggml")
    args.add_argument("--exact", action="store_true", help="also run with weights decoded to f32 (four bytes per weight of disk and memory)")
    args.add_argument("--out", type=Path, default=here)
    args.add_argument("--sample", type=Path, default=here / "code_sample.txt")
    a = args.parse_args()
    pairs = [m.partition("=") for m in a.models]
    if any(not sep for _, sep, _ in pairs):
        args.error("models are given as NAME=PATH")
    lib = load_bindings(a.lib_dir)
    lib.llama_backend_init()
    for name, _, path in pairs:
        doc = record(lib, name, Path(path), a.sample, a.exact)
        target = a.out / f"{name}.llamacpp.json"
        target.write_text(tidy_json(doc), encoding="utf-8")
        print(f"{target.name}: {doc['sample']['n_ids']} tokens, perplexity {doc['code']['perplexity']}, {target.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
