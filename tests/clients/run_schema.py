#!/usr/bin/env python3
"""schemathesis against a running server and its own OpenAPI document: whatever is sent, no answer may be a 5xx.

    python run_schema.py --base-url http://127.0.0.1:PORT [--seconds N] [--examples N] [--seed N]

The document is fetched from the server. Names of models are fixed to `default` and answers to a few tokens, so that requests reach
the engine instead of ending at an unknown name. Serve a tiny model with `--ctx 256`. Exit 1 if anything was found.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

TOKENS_MAX = 8
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def narrow(schema):
    """Requests that get somewhere and end soon."""
    if isinstance(schema, list):
        return [narrow(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {k: narrow(v) for k, v in schema.items()}
    fields = schema.get("properties")
    if isinstance(fields, dict):
        if isinstance(fields.get("model"), dict) and ("options" in fields or "max_output_tokens" in fields) or "max_tokens" in fields:
            fields["model"] = {"const": "default"}
        for name in ("max_tokens", "max_completion_tokens", "n_predict", "num_predict", "max_output_tokens"):
            if name in fields:
                fields[name] = {"type": "integer", "minimum": 0, "maximum": TOKENS_MAX}
        if "deadline_ms" in fields:
            fields["deadline_ms"]["minimum"] = 60_000  # an honest 503 is no discovery
        for name in ("replay", "logit_bias"):
            fields.pop(name, None)  # refused for nearly every value: another model, another vocabulary
    return schema


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    root = args.base_url.rstrip("/").removesuffix("/v1")
    with urllib.request.urlopen(root + "/openapi.json", timeout=30) as answer:
        document = json.load(answer)
    requests = [s for s in document["components"]["schemas"] if s.endswith("Request")]
    for name in requests:
        document["components"]["schemas"][name] = narrow(document["components"]["schemas"][name])
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "openapi.json")
        path.write_text(json.dumps(document))
        tool = pathlib.Path(sys.executable).with_name("schemathesis")
        command = [tool, "run", path, "--url", root, "--checks", CHECKS, "--max-examples", args.examples]
        command += ["--seed", args.seed, "--max-time", args.seconds, "--continue-on-failure", "--request-timeout", 30]
        command += ["--suppress-health-check", "filter_too_much"]
        return subprocess.run([str(part) for part in command], cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main())
