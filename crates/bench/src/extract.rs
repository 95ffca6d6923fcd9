//! The program in a chat answer: the first fenced block of Python, else the whole text. On what coding models send it takes
//! what the yardstick's pattern takes (first fence of Python or of nothing, up to the next fence or the end); beyond it, it reads
//! `py`, `python3`, capitals and CRLF, and passes over a block of another language as a whole.

const FENCE: &str = "```";

/// The program in `answer`.
pub(crate) fn code(answer: &str) -> &str {
    let mut rest = answer;
    while let Some((_, after)) = rest.split_once(FENCE) {
        let Some((info, body)) = after.split_once('\n') else { break };
        // Several fences on one line: only the last one can begin a block.
        let tag = info.rsplit(FENCE).next().unwrap_or_default().trim();
        let (block, tail) = body.split_once(FENCE).unwrap_or((body, ""));
        match tag.to_ascii_lowercase().as_str() {
            "" | "python" | "python3" | "py" => return block,
            _ if info.contains('`') || tag.contains(' ') => rest = body, // prose, no block begins here
            _ => rest = tail,
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn the_first_block_of_python_is_taken() {
        assert_eq!(code("```python\ndef f():\n    pass\n```"), "def f():\n    pass\n");
        assert_eq!(code("Sure! Here:\n\n```\nx = 1\n```\nand\n```python\ny\n```"), "x = 1\n");
        assert_eq!(code("```py\r\nx\r\n```"), "x\r\n");
        assert_eq!(code("Here it is: ```Python\nx\n``` Done."), "x\n");
    }

    #[test]
    fn an_unclosed_fence_goes_on_to_the_end_and_no_fence_is_all() {
        assert_eq!(code("Text\n```python\nx = 1\ny ="), "x = 1\ny =");
        assert_eq!(code("def f():\n    return 1\n"), "def f():\n    return 1\n");
        assert_eq!(code(""), "");
        assert_eq!(code("```"), "```");
        assert_eq!(code("```python"), "```python");
    }

    #[test]
    fn other_languages_and_inline_code_are_passed_over() {
        assert_eq!(code("```bash\npip install x\n```\nthen\n```python\ny\n```"), "y\n");
        assert_eq!(code("Use ```f``` so:\n```python\nz\n```"), "z\n");
        assert_eq!(code("```text\nonly prose\n```"), "```text\nonly prose\n```");
    }
}
