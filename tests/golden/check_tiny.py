#!/usr/bin/env python3
"""A second opinion on the tiny models: llama.cpp reads the GGUFs and must agree with HF. Needs both requirements files.

    python check_tiny.py [--lib-dir DIR]

Two runs each: the file as it is, and its weights decoded to f32. Only the second is held to a tolerance: with F16 matrices
llama.cpp rounds activations to f16, with quantised ones to int8. Exit 1 on disagreement.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from make_llamacpp import Model, decoded_to_f32, load_bindings

TOLERANCE = 1e-5  # of the largest logit


def main() -> int:
    here = Path(__file__).resolve().parent
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--lib-dir", type=Path)
    lib = load_bindings(args.parse_args().lib_dir)
    lib.llama_backend_init()
    failed = 0
    for entry in json.loads((here / "tiny.json").read_text())["models"]:
        path = here / entry["files"]["gguf"]
        expected = np.fromfile(here / entry["files"]["logits"], "<f4").reshape(entry["shape"])
        with tempfile.TemporaryDirectory() as folder:
            f32 = Path(folder) / "f32.gguf"
            decoded_to_f32(path, f32)
            errors = []
            for file in (path, f32):
                m = Model(lib, file, exact=True)
                got = m.decode(entry["ids"], 0, every=True)
                errors.append(float(np.abs(got - expected).max() / np.abs(expected).max()))
            wrong = [t["text"] for t in entry["tokenize"]["texts"] if m.tokenize(t["text"], False, False) != t["ids"]]
        good = errors[1] <= TOLERANCE and not wrong
        failed += not good
        print(f"{'ok' if good else 'FAIL'} {entry['name']}: as it is {errors[0]:.1e}, decoded to f32 {errors[1]:.1e}, texts tokenised otherwise: {wrong}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
