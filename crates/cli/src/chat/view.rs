//! The picture of a talk: what was said, a line of figures, what is being typed. Drawn anew each time for whatever size the
//! terminal has.

use super::talk::{Talk, Turn, Who};
use crate::edit::harmless;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::Paragraph;
use unicode_width::UnicodeWidthChar;

/// Lines of what is being typed, at most.
const INPUT_LINES_MAX: usize = 6;

/// Draws it.
pub fn draw(frame: &mut Frame<'_>, talk: &mut Talk, about: &str) {
    let area = frame.area();
    let width = usize::from(area.width).max(4);
    let typed = wrapped(&format!("> {}", talk.input), width);
    let shown = typed.len().clamp(1, INPUT_LINES_MAX);
    let rows = Layout::vertical([Constraint::Min(1), Constraint::Length(1), Constraint::Length(shown as u16)]);
    let [said_area, status_area, input_area] = rows.areas(area);
    let lines: Vec<Line<'_>> = talk.turns.iter().flat_map(|turn| lines_of(turn, width)).collect();
    let height = usize::from(said_area.height);
    talk.scrolled = talk.scrolled.min(lines.len().saturating_sub(height));
    let end = lines.len() - talk.scrolled;
    let visible = lines[end.saturating_sub(height)..end].to_vec();
    frame.render_widget(Paragraph::new(Text::from(visible)), said_area);
    let status = Line::styled(status(talk, about), Style::new().add_modifier(Modifier::REVERSED));
    frame.render_widget(Paragraph::new(status).style(Style::new().add_modifier(Modifier::REVERSED)), status_area);
    // What is typed scrolls so that the cursor is seen.
    let (row, column) = cursor(&format!("> {}", &talk.input[..talk.cursor]), width);
    let from = (row + 1).saturating_sub(shown);
    let visible: Vec<Line<'_>> = typed.into_iter().skip(from).take(shown).map(Line::raw).collect();
    frame.render_widget(Paragraph::new(Text::from(visible)), input_area);
    let x = input_area.x.saturating_add(column as u16).min(area.right().saturating_sub(1));
    frame.set_cursor_position(Position::new(x, input_area.y.saturating_add((row - from) as u16)));
}

fn status(talk: &Talk, about: &str) -> String {
    let doing = match (talk.is_answering(), &talk.figures) {
        (true, _) => "answering; Esc stops, Enter steers".to_owned(),
        (false, Some(figures)) => figures.line(),
        (false, None) => "Enter sends, Alt-Enter breaks the line, /file PATH, /clear, /quit".to_owned(),
    };
    let above = if talk.scrolled > 0 { format!(" | {} lines below", talk.scrolled) } else { String::new() };
    harmless(&format!(" {about} | {doing}{above}"))
}

fn lines_of(turn: &Turn, width: usize) -> Vec<Line<'static>> {
    let (name, style) = match turn.who {
        Who::You => ("you", Style::new().fg(Color::Cyan)),
        Who::Model => ("vonk", Style::new().fg(Color::Green)),
        Who::Note => ("note", Style::new().fg(Color::Yellow)),
    };
    let mut lines = vec![Line::styled(name, style.add_modifier(Modifier::BOLD))];
    let text = turn.label.as_ref().unwrap_or(&turn.text);
    lines.extend(wrapped(text.trim_end(), width).into_iter().map(Line::raw));
    lines.push(Line::raw(""));
    lines
}

/// Lines of at most `width` columns, broken at blanks where that is possible.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut out = Vec::new();
    for line in text.split('\n') {
        let line = harmless(line).replace('\t', "    ");
        let (mut rest, mut is_first) = (line.as_str(), true);
        while is_first || !rest.is_empty() {
            is_first = false;
            let end = fitting(rest, width);
            let at = match rest[..end].rfind(' ') {
                Some(blank) if end < rest.len() && !rest[..blank].trim().is_empty() => blank + 1,
                _ => end,
            };
            out.push(rest[..at].to_owned());
            rest = &rest[at..];
        }
    }
    out
}

/// Bytes of the start that fit into the columns; at least one character.
fn fitting(text: &str, width: usize) -> usize {
    let mut columns = 0;
    let fits = |(at, c): (usize, char)| {
        columns += c.width().unwrap_or(0);
        (columns <= width || at == 0).then_some(at + c.len_utf8())
    };
    text.char_indices().map_while(fits).last().unwrap_or(0)
}

/// Row and column after this text.
fn cursor(text: &str, width: usize) -> (usize, usize) {
    let lines = wrapped(text, width);
    let column: usize = lines.last().map_or(0, |l| l.chars().filter_map(|c| c.width()).sum());
    (lines.len().saturating_sub(1), column)
}

#[cfg(test)]
mod tests {
    use super::super::talk::Figures;
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn picture(talk: &mut Talk, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, talk, "m at http://x")).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned() + "\n").collect()
    }

    fn talk() -> Talk {
        let mut talk = Talk::new(None);
        talk.say("How do I sort a list in Python?");
        talk.begin();
        talk.hear("Use `sorted`:\n\n```python\nfor x in sorted(items):\n\tprint(x)\x1b[2J\n```\n");
        talk
    }

    #[test]
    fn the_screen_while_it_answers() {
        let mut talk = talk();
        talk.paste("and reversed?");
        assert_eq!(
            picture(&mut talk, 40, 14),
            "\
you
How do I sort a list in Python?

vonk
Use `sorted`:

```python
for x in sorted(items):
    print(x)␛[2J
```


 m at http://x | answering; Esc stops, E
> and reversed?
"
        );
    }

    #[test]
    fn the_screen_after_it_narrow_and_scrolled() {
        let mut talk = talk();
        talk.end(Some(Ok(Figures { tokens: 31, ttft_s: 0.042, decode_s: 0.1, is_cut: false })));
        assert!(picture(&mut talk, 80, 14).contains(" m at http://x | 31 tokens, ttft 42 ms, 300 tok/s"));
        talk.scrolled = 1000;
        talk.paste("a message that does not fit into one line");
        assert_eq!(
            picture(&mut talk, 16, 9),
            "\
you
How do I sort a
list in Python?

vonk
 m at http://x |
> a message
that does not
fit into one
"
            .replace("fit into one\n", "fit into one\nline\n")
            .replace("vonk\n", "")
        );
        for (width, height) in [(1, 1), (3, 2), (500, 3), (40, 200)] {
            picture(&mut talk, width, height); // any size, no panic
        }
    }

    #[test]
    fn lines_are_broken_at_blanks_and_wide_characters_count_twice() {
        assert_eq!(wrapped("one two three", 8), ["one two ", "three"]);
        assert_eq!(wrapped("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrapped("漢字漢字", 4), ["漢字", "漢字"]);
        assert_eq!(wrapped("a\n\nb", 4), ["a", "", "b"]);
        assert_eq!(
            wrapped("    indented code", 10),
            ["    indent", "ed code"],
            "a blank that only indents is no place to break"
        );
    }
}
