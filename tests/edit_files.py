"""`vonk edit` on real commits: the whole time from the command to the file on disk, against the same command on another server.

    python3 tests/edit_files.py --vonk target/release/vonk --data ../shared/data/git-real-dev/edit.jsonl \
        --url http://127.0.0.1:8098 --against http://127.0.0.1:8097 --n 8

The data has rows with `path`, `subject`, `before`. Servers take turns; each file is undone and its folder removed afterwards.
Prints one JSON object. A case counts in the ratio when both servers answered; whether an answer could be applied is the model's wit
and is counted apart.
"""

import argparse, json, os, random, statistics, subprocess, tempfile, time


def cases(path, skip, n, seed, chars):
    rows = [json.loads(line) for line in open(path, encoding="utf-8")]
    rows = [r for r in rows if chars[0] <= len(r["before"]) <= chars[1] and "\0" not in r["before"]]
    random.Random(seed).shuffle(rows)
    return rows[skip : skip + n]


def edit(vonk, url, case):
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.basename(case["path"]) or "file"
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(case["before"])
        command = [vonk, "edit", "--yes", "--json", "--how", "whole", "--force", "--url", url, name, case["subject"]]
        begin = time.monotonic()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "VONK_HOME": folder})
        wall_ms = (time.monotonic() - begin) * 1e3
        answer = json.loads(done.stdout) if done.stdout.strip() else {"error": done.stderr.strip()[:300]}
        return {**answer, "wall_ms": wall_ms, "exit": done.returncode}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vonk", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--url", required=True)
    p.add_argument("--against")
    p.add_argument("--n", type=int, default=8)
    p.add_argument("--skip", type=int, default=0)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--chars", type=int, nargs=2, default=[1000, 4000])
    args = p.parse_args()
    sides = [("A", args.url)] + ([("B", args.against)] if args.against else [])
    rows = []
    for i, case in enumerate(cases(args.data, args.skip, args.n, args.seed, args.chars)):
        row = {"path": os.path.basename(case["path"]), "bytes": len(case["before"].encode())}
        for label, url in sides if i % 2 == 0 else sides[::-1]:
            row[label] = edit(os.path.abspath(args.vonk), url, case)
        rows.append(row)
    out = {"rows": rows}
    for label, _ in sides:
        got = [r[label] for r in rows]
        fine = [g for g in got if "error" not in g]
        out[label] = {
            "answered": len(fine), "applied": sum(g["applied"] for g in fine), "of": len(got),
            "wall_ms_p50": statistics.median(g["wall_ms"] for g in fine) if fine else None,
            "tokens_p50": statistics.median(g["tokens"] for g in fine) if fine else None,
        }
    both = [r for r in rows if all("error" not in r[label] for label, _ in sides)]
    if args.against and both:
        out["whole_time_a_over_b"] = {
            "of_sums": sum(r["A"]["wall_ms"] for r in both) / sum(r["B"]["wall_ms"] for r in both),
            "p50": statistics.median(r["A"]["wall_ms"] / r["B"]["wall_ms"] for r in both), "cases": len(both),
            # Answers differ in length: time for each token, too.
            "per_token": statistics.median(
                (r["A"]["wall_ms"] / r["A"]["tokens"]) / (r["B"]["wall_ms"] / r["B"]["tokens"]) for r in both),
        }
    print(json.dumps(out))


if __name__ == "__main__":
    main()
