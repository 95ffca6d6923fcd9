"""The completion's index of names against tree-sitter: which definitions `vonk bench symbols` finds in files, and which it should.

    python3 tests/symbols/compare.py --vonk target/release/vonk [--data ../shared/data/git-real-dev] [--min 0] [--show 5] FOLDER...

Files are taken from the folders, at most `--n` of each language, chosen by `--seed`, and from git-real-dev's edit.jsonl. What counts
as a definition is written down in KINDS below, by tree-sitter's node types, without looking at the index's code; names
below three characters are not kept by the index and count for neither. A definition is found if name and line agree. Prints one
JSON object; with `--min`, fails if a language's recall is below it.
"""

import argparse, importlib, json, os, random, subprocess, sys, tempfile

from tree_sitter import Language, Parser

EXTENSIONS = {
    "rust": [".rs"], "python": [".py"], "javascript": [".js", ".mjs", ".cjs"], "typescript": [".ts", ".mts"], "go": [".go"],
    "c": [".c"], "cpp": [".cc", ".cpp", ".hpp"], "lua": [".lua"],
}
# Node type -> field that holds the name.
FUNCTION_VALUES = {"arrow_function", "function_expression", "generator_function", "class", "function_definition"}
SCRIPT = {
    "function_declaration": "name", "generator_function_declaration": "name", "class_declaration": "name", "method_definition": "name",
    "interface_declaration": "name", "type_alias_declaration": "name", "enum_declaration": "name", "abstract_class_declaration": "name",
    "method_signature": "name", "abstract_method_signature": "name", "function_signature": "name", "internal_module": "name", "module": "name",
}
KINDS = {
    "rust": {k: "name" for k in (
        "function_item", "function_signature_item", "struct_item", "enum_item", "union_item", "trait_item", "type_item", "associated_type",
        "const_item", "static_item", "mod_item", "macro_definition")},
    "python": {"function_definition": "name", "class_definition": "name", "type_alias_statement": "left"},
    "javascript": SCRIPT,
    "typescript": SCRIPT,
    "go": {"function_declaration": "name", "method_declaration": "name", "type_spec": "name", "type_alias": "name"},
    "c": {"preproc_def": "name", "preproc_function_def": "name"},
    "cpp": {"preproc_def": "name", "preproc_function_def": "name", "namespace_definition": "name", "alias_declaration": "name"},
    "lua": {"function_declaration": "name"},
}


def last(node):
    """The last identifier of a path of names; a name that is computed is none."""
    if node is not None and node.type in ("computed_property_name", "subscript_expression", "bracket_index_expression", "string"):
        return None
    if node is not None and node.type == "template_type":
        return node.child_by_field_name("name")
    while node is not None and node.named_child_count and "identifier" not in node.type.replace("qualified_identifier", "path"):
        node = node.child_by_field_name("name") or node.child_by_field_name("property") or node.child_by_field_name("field") \
            or node.child_by_field_name("method") or node.named_children[-1]
    return node


def declarator(node):
    """The name in a C declarator, and whether it is a function's."""
    is_function = False
    while node is not None and node.type not in ("identifier", "field_identifier", "type_identifier", "qualified_identifier"):
        if node.type in ("destructor_name", "operator_name", "operator_cast", "structured_binding_declarator"):
            return None, False
        # `(*f)(int)` is a pointer to a function, not one.
        is_function = (is_function or node.type == "function_declarator") and node.type != "parenthesized_declarator"
        if node.type == "init_declarator":
            return None, False
        if node.type == "template_function":
            return node.child_by_field_name("name"), is_function
        node = node.child_by_field_name("declarator") or (node.named_children[-1] if node.named_child_count else None)
    while node is not None and node.type == "qualified_identifier":
        node = node.child_by_field_name("name")
        if node is not None and node.type in ("destructor_name", "operator_name", "operator_cast", "template_function"):
            node = node.child_by_field_name("name") if node.type == "template_function" else None
    return node, is_function


def extra(language, node, out):
    """What is no matter of the node's type alone."""
    kind, parent = node.type, node.parent.type if node.parent else ""
    field = node.child_by_field_name
    if language in ("javascript", "typescript"):
        value = field("value") or field("right")
        is_function = value is not None and value.type in FUNCTION_VALUES
        if kind == "variable_declarator":
            above = node.parent.parent
            is_top = above.type == "program" or (above.type in ("export_statement", "ambient_declaration") and above.parent.type in ("program", "export_statement"))
            if (is_top or is_function) and field("name").type == "identifier":
                out.append(field("name"))
        elif kind in ("assignment_expression", "pair", "field_definition", "public_field_definition") and is_function:
            out.append(last(field("left") or field("key") or field("name") or field("property")))
        elif kind == "property_signature" and (t := field("type")) and t.named_children[0].type == "function_type":
            out.append(field("name"))
    elif language == "go" and kind in ("const_spec", "var_spec"):
        above = node.parent if node.parent.type != "var_spec_list" else node.parent.parent
        if above.parent.type == "source_file":
            out += [c for c in node.children_by_field_name("name") if c.type == "identifier"]
    elif language in ("c", "cpp"):
        if kind in ("struct_specifier", "union_specifier", "enum_specifier", "class_specifier") and field("body"):
            out.append(last(field("name")) if field("name") is not None else None)
        elif kind == "function_definition":
            out.append(declarator(field("declarator"))[0])
        elif kind == "type_definition":
            out += [declarator(d)[0] for d in node.children_by_field_name("declarator")]
        elif kind in ("declaration", "field_declaration"):
            inside = node.parent
            while inside is not None and inside.type != "function_definition" and inside.type != "lambda_expression":
                inside = inside.parent
            for d in node.children_by_field_name("declarator") if inside is None else []:
                name, is_function = declarator(d)
                if is_function:
                    out.append(name)
    elif language == "lua":
        if kind == "assignment_statement":
            names = [n for c in node.named_children if c.type == "variable_list" for n in c.named_children]
            values = [n for c in node.named_children if c.type == "expression_list" for n in c.named_children]
            out += [last(n) for n, v in zip(names, values) if v.type == "function_definition"]
        elif kind == "field" and (v := field("value")) is not None and v.type == "function_definition" and field("name") is not None:
            out.append(field("name"))


def wanted(language, parser, text):
    found, stack = set(), [parser.parse(text).root_node]
    while stack:
        node = stack.pop()
        names = []
        if node.is_named and (name := KINDS[language].get(node.type)):
            names.append(last(node.child_by_field_name(name)))
        elif node.is_named:
            extra(language, node, names)
        for name in names:
            if name is not None and name.type not in ("string", "computed_property_name", "operator_name"):
                text_of = name.text.decode(errors="replace").lstrip("#").removeprefix("r#")
                if len(text_of.encode()) >= 3:
                    found.add((name.start_point[0], text_of))
        stack += node.children
    return found


def grammar(language):
    module = importlib.import_module(f"tree_sitter_{language}")
    return Language(module.language_typescript() if language == "typescript" else module.language())


def files(folders, n, seed):
    chosen = {language: [] for language in EXTENSIONS}
    for folder in folders:
        for at, _, names in os.walk(folder):
            for name in names:
                for language, extensions in EXTENSIONS.items():
                    path = os.path.join(at, name)
                    is_small = os.path.splitext(name)[1] in extensions and ".min." not in name and not os.path.islink(path)
                    if is_small and 500 <= os.path.getsize(path) <= 200_000:
                        chosen[language].append(path)
    for paths in chosen.values():
        paths.sort()
        random.Random(seed).shuffle(paths)
        del paths[n:]
    return chosen


def unpacked(data, folder):
    """The files of git-real-dev, as they were before each commit."""
    with open(os.path.join(data, "edit.jsonl"), encoding="utf-8") as rows:
        for i, row in enumerate(map(json.loads, rows)):
            with open(os.path.join(folder, f"{i}{os.path.splitext(row['path'])[1]}"), "w", encoding="utf-8", newline="") as file:
                file.write(row["before"])


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--vonk", required=True)
    args.add_argument("--data")
    args.add_argument("--n", type=int, default=300)
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--min", type=float, default=0.0)
    args.add_argument("--show", type=int, default=0, help="misses to print, of each kind and language")
    args.add_argument("folders", nargs="*")
    args = args.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.data:
            unpacked(args.data, folder)
        report = compare(args, files([folder, *args.folders], args.n, args.seed))
    print(json.dumps(report))
    low = [l for l, r in report.items() if r["recall"] < args.min]
    sys.exit(f"below {args.min}: {low}" if low else 0)


def compare(args, chosen):
    report = {}
    for language, paths in chosen.items():
        if not paths:
            continue
        asked = subprocess.run([args.vonk, "bench", "symbols", "--json", "-"], input="\n".join(paths), capture_output=True, text=True, check=True)
        parser, missed, wrong, n_wanted, n_found, n_right, ms = Parser(grammar(language)), [], [], 0, 0, 0, 0.0
        for line in asked.stdout.splitlines():
            said = json.loads(line)
            with open(said["path"], "rb") as file:
                text = file.read()
            want = wanted(language, parser, text)
            found = {(d["line"], d["name"]) for d in said["definitions"] if len(d["name"].encode()) >= 3}
            n_wanted, n_found, n_right, ms = n_wanted + len(want), n_found + len(found), n_right + len(want & found), ms + said["ms"]
            lines = text.decode(errors="replace").split("\n")
            show = lambda at: f"{os.path.basename(said['path'])}:{at[0] + 1}: {at[1]}: {lines[at[0]].strip()[:100]}"
            missed += map(show, sorted(want - found))
            wrong += map(show, sorted(found - want))
        for what, all_of in ("missed", missed), ("not wanted", wrong):
            for line in random.Random(args.seed).sample(all_of, min(args.show, len(all_of))):
                print(f"{language}: {what}: {line}", file=sys.stderr)
        report[language] = {
            "files": len(paths), "definitions": n_wanted, "recall": round(n_right / max(1, n_wanted), 4),
            "precision": round(n_right / max(1, n_found), 4), "ms_per_file": round(ms / len(paths), 3),
        }
    return report


if __name__ == "__main__":
    main()
