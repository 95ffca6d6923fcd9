"""Random but valid blocks of every GGUF weight type, made byte by byte: no quantiser is involved, so nothing is rounded twice."""

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

# Every type a weight may have here.
TYPES = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")

# Per block type: where the f16 scale sits, where the f16 minimum sits (None: none), and minimum / scale for values of mean zero.
# Layouts: gguf specification, ggml-common.h block_q*.
SCALES = {
    "Q4_0": (0, None, 0.0),
    "Q4_1": (0, 2, -7.5),
    "Q5_0": (0, None, 0.0),
    "Q5_1": (0, 2, -15.5),
    "Q8_0": (0, None, 0.0),
    "Q2_K": (80, 82, 1.5),
    "Q3_K": (108, None, 0.0),
    "Q4_K": (0, 2, 7.5),
    "Q5_K": (0, 2, 15.5),
    "Q6_K": (208, None, 0.0),
}


def block(name: str) -> tuple[int, int]:
    """(elements, bytes) of one block."""
    return gguf.GGML_QUANT_SIZES[T[name]]


def put_scales(raw: np.ndarray, name: str, d: np.ndarray, ratio: float | None = None) -> None:
    """Writes the f16 scales `d` (one per block), and minima in proportion, into `raw` [n_blocks, block bytes]."""
    at, at_min, zero_mean = SCALES[name]
    raw[:, at : at + 2] = np.asarray(d, dtype="<f2").reshape(-1, 1).view(np.uint8)
    if at_min is not None:
        m = np.asarray(d, dtype="<f2").astype(np.float32) * (zero_mean if ratio is None else ratio)
        raw[:, at_min : at_min + 2] = m.astype("<f2").reshape(-1, 1).view(np.uint8)


def decode(raw: np.ndarray, name: str) -> np.ndarray:
    """Bytes [rows, row bytes] to f32 [rows, row length], by gguf-py."""
    if name == "F32":
        return raw.view("<f4").astype(np.float32)
    if name == "F16":
        return raw.view("<f2").astype(np.float32)
    return gguf.quants.dequantize(raw, T[name]).astype(np.float32)


def random_rows(rng: np.random.Generator, name: str, rows: int, cols: int, std: float) -> np.ndarray:
    """Bytes [rows, row bytes] of `name` whose decoded values have about the standard deviation `std`."""
    if name in ("F32", "F16", "BF16"):
        x = (rng.standard_normal((rows, cols)) * std).astype("<f4")
        if name == "F32":
            return x.view(np.uint8)
        if name == "F16":
            return x.astype("<f2").view(np.uint8)
        return (x.view("<u4") >> 16).astype("<u2").view(np.uint8).reshape(rows, cols * 2)
    elements, size = block(name)
    if cols % elements:
        raise ValueError(f"{name}: a row of {cols} is not whole blocks of {elements}")
    blocks = rows * cols // elements
    raw = rng.integers(0, 256, (blocks, size), dtype=np.uint8)
    spread = rng.uniform(0.7, 1.4, blocks)
    put_scales(raw, name, np.ones(blocks))
    d = spread * std / decode(raw, name).std()
    put_scales(raw, name, d)
    return raw.reshape(rows, -1)


# Edge scales for block 2 and 3 of each type: the smallest subnormal, and a large negative one.
EDGE = (np.float16(6e-8), np.float16(-1024.0))


def sample(rng: np.random.Generator, name: str) -> np.ndarray:
    """Four blocks [4, block bytes]: two ordinary, a subnormal scale, a large negative scale (and all-ones quants in the last)."""
    if name == "F32":
        edge = [0.0, -0.0, 1.0, -1.5, 1e-45, 1.17549435e-38, 3.4028235e38, -65504.0]
        return np.array(edge, dtype="<f4").view(np.uint8).reshape(8, 4)
    if name == "F16":
        edge = np.array([0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x3C00, 0x7BFF, 0xFBFF, 0x3555, 0xB800], dtype="<u2")
        return edge.view(np.uint8).reshape(-1, 2)
    if name == "BF16":
        edge = np.array([0x0000, 0x8000, 0x0001, 0x807F, 0x0080, 0x3F80, 0x7F7F, 0xFF7F, 0x3EAB, 0xC049], dtype="<u2")
        return edge.view(np.uint8).reshape(-1, 2)
    raw = rng.integers(0, 256, (4, block(name)[1]), dtype=np.uint8)
    raw[3] = 0xFF
    put_scales(raw, name, np.array([0.01, -0.37, EDGE[0], EDGE[1]]), ratio=0.7)
    return raw
