//! Problems are read or refused, answers judged, and failures counted by kind.

use super::*;

fn problem(id: usize) -> Problem {
    Problem {
        task_id: format!("T/{id}"),
        prompt: "from typing import List\n\ndef total(xs: List[int]) -> int:\n    \"\"\" Their sum. \"\"\"\n"
            .to_owned(),
        entry_point: "total".to_owned(),
        test: "def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n".to_owned(),
    }
}

fn has_python() -> bool {
    Python::find().inspect_err(|e| println!("left out: {e}")).is_ok()
}

#[test]
fn answers_are_judged_and_failures_counted_by_kind() {
    if !has_python() {
        return;
    }
    let answers = [
        "```python\ndef total(xs: List[int]) -> int:\n    return sum(xs)\n```",
        "Of course!\n```python\ndef total(xs):\n    return sum(xs) + 1\n```\nThis adds them.",
        "def total(xs):\n    return sum(xs)\n",
        "I am afraid I cannot.",
        "```python\ndef total(xs):\n    return xs.total\n```",
        "```python\ndef total(xs):\n    import sys; sys.exit(0)\n```",
        "",
    ];
    let problems: Vec<Problem> = (0..answers.len()).map(problem).collect();
    let (mut asked, mut lines) = (Vec::new(), Vec::new());
    let mut ask = |message: &str| {
        asked.push(message.to_owned());
        Ok(answers[asked.len() - 1].to_owned())
    };
    let report = run(&problems, &mut ask, &mut |line| lines.push(line.to_owned())).unwrap();
    let verdicts: Vec<&str> = report.tasks.iter().map(|t| t.verdict.word()).collect();
    assert_eq!(verdicts, ["passed", "assertion", "passed", "syntax", "exception", "exit", "assertion"]);
    assert_eq!((report.passed, report.total), (2, 7));
    assert!((report.pass_at_1 - 2.0 / 7.0).abs() < 1e-12);
    assert_eq!(report.failures.get("assertion"), Some(&2));
    assert_eq!(lines.len(), 7);
    assert!(asked[0].contains("```python\nfrom typing import List"), "{}", asked[0]);
    let shown = report.to_string();
    assert!(shown.ends_with("pass@1 2/7 = 28.6 %") && shown.contains("T/1  assertion"), "{shown}");
    let value = serde_json::to_value(&report).unwrap();
    assert_eq!(value["tasks"][3]["verdict"], "syntax");
    assert_eq!(value["limits"]["cpu_s"], limits::EVAL_CPU_S_MAX);
    assert!(value["confinement"]["walls"].as_array().unwrap().iter().any(|w| w == "audit-hook"));
}

#[test]
fn one_failed_request_is_counted_and_a_dead_server_ends_it() {
    if !has_python() {
        return;
    }
    let problems: Vec<Problem> = (0..8).map(problem).collect();
    let good = "```python\ndef total(xs):\n    return sum(xs)\n```";
    let mut n = 0;
    let mut flaky = |_: &str| {
        n += 1;
        if n == 2 { Err(BenchError::Ask("out of pages".to_owned())) } else { Ok(good.to_owned()) }
    };
    let report = run(&problems[..3], &mut flaky, &mut |_| {}).unwrap();
    assert_eq!((report.passed, report.failures.get("ask")), (2, Some(&1)));
    let mut calls = 0;
    let mut broken = |_: &str| {
        calls += 1;
        Err(BenchError::Ask("out of pages".to_owned()))
    };
    assert!(run(&problems, &mut broken, &mut |_| {}).is_err());
    assert_eq!(calls, limits::EVAL_ASK_FAILURES_MAX);
}

#[test]
fn data_files_are_read_or_refused_with_the_line() {
    let folder = env::temp_dir().join(format!("vonk-humaneval-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("p.jsonl");
    let row = r#"{"task_id":"T/0","prompt":"p","entry_point":"f","canonical_solution":"","test":"t"}"#;
    let refused = |text: &[u8]| {
        std::fs::write(&path, text).unwrap();
        load(&path, None).unwrap_err().to_string()
    };
    assert!(refused(format!("{row}\n{{}}\n").as_bytes()).contains("line 2: missing field"));
    assert!(refused(row.replace("\"f\"", "\"f)+(\"").as_bytes()).contains("line 1"));
    assert!(refused(b"").contains("no rows"));
    assert!(refused(b"\x1f\x8b\x08").contains("gzip"));
    assert!(refused(b"\xff\xfe").contains("UTF-8"));
    std::fs::write(&path, format!("{row}\n\n{row}\n{row}\n")).unwrap();
    assert_eq!(load(&path, None).unwrap().len(), 3);
    assert_eq!(load(&path, Some(2)).unwrap().len(), 2);
    assert!(load(&path, Some(0)).is_err());
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(load(&path, None).unwrap_err().to_string().contains("VONK_DATA"));
}

/// The reference solutions of the data set pass, and the problems without a solution do not: the runner judges as its authors do.
#[test]
fn the_reference_solutions_of_the_data_set_pass() {
    let root = env::var_os("VONK_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let path = root.join("humaneval").join("HumanEval.jsonl");
    let Ok(problems) = load(&path, None) else {
        println!("left out: no {}", path.display());
        return;
    };
    if !has_python() {
        return;
    }
    let rows: Vec<Value> =
        std::fs::read_to_string(&path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    // Every 10th keeps the test short; VONK_EVAL_ALL takes all 164.
    let step = if env::var_os("VONK_EVAL_ALL").is_some() { 1 } else { 10 };
    let picked: Vec<usize> = (0..problems.len()).step_by(step).collect();
    let some: Vec<Problem> = picked.iter().map(|&i| problems[i].clone()).collect();
    let mut at = 0;
    let mut reference = |_: &str| {
        let i = picked[at];
        at += 1;
        let solution = rows[i]["canonical_solution"].as_str().unwrap();
        Ok(format!("```python\n{}{solution}```", problems[i].prompt))
    };
    let report = run(&some, &mut reference, &mut |_| {}).unwrap();
    assert_eq!(report.passed, report.total, "{report}");
    let none = run(&some[..3], &mut |_| Ok("```python\n```".to_owned()), &mut |_| {}).unwrap();
    assert_eq!(none.passed, 0, "{none}");
}
