//! What was said, what is being typed, and what a key does to both. Writing while an answer comes steers it: the answer is stopped,
//! what it has said stays, and the new message goes after it.

use base::limits;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::{Value, json};
use std::path::Path;

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    You,
    Model,
    /// The program; the model does not see it.
    Note,
}

/// Something that was said.
#[derive(Clone, Debug)]
pub struct Turn {
    pub who: Who,
    /// What the model sees.
    pub text: String,
    /// What is shown instead.
    pub label: Option<String>,
}

/// What an answer cost.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub tokens: u64,
    pub ttft_s: f64,
    pub decode_s: f64,
    pub is_cut: bool,
}

impl Figures {
    pub fn line(&self) -> String {
        let tps = self.tokens.saturating_sub(1) as f64 / self.decode_s.max(1e-9);
        let cut = if self.is_cut { ", cut at the most tokens allowed" } else { "" };
        format!("{} tokens, ttft {:.0} ms, {tps:.0} tok/s{cut}", self.tokens, self.ttft_s * 1e3)
    }
}

/// What the caller has to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Nothing,
    /// Stop the answer.
    Stop,
    /// End the program.
    Quit,
}

/// See the file.
pub struct Talk {
    system: Option<String>,
    pub turns: Vec<Turn>,
    pub input: String,
    /// Byte offset in `input`.
    pub cursor: usize,
    /// Lines that the picture is above its end.
    pub scrolled: usize,
    pub figures: Option<Figures>,
    is_answering: bool,
    is_due: bool,
}

impl Talk {
    pub fn new(system: Option<String>) -> Self {
        let (turns, input) = (Vec::new(), String::new());
        Self { system, turns, input, cursor: 0, scrolled: 0, figures: None, is_answering: false, is_due: false }
    }

    pub fn is_answering(&self) -> bool {
        self.is_answering
    }

    /// Whether there is a message to answer, and nobody answers yet.
    pub fn is_due(&self) -> bool {
        self.is_due && !self.is_answering
    }

    /// The answer was asked for.
    pub fn begin(&mut self) {
        (self.is_due, self.is_answering, self.figures) = (false, true, None);
        self.push(Who::Model, String::new(), None);
    }

    /// More of the answer.
    pub fn hear(&mut self, text: &str) {
        if let Some(turn) = self.turns.iter_mut().rfind(|t| t.who == Who::Model).filter(|_| self.is_answering) {
            turn.text.push_str(text);
        }
    }

    /// The answer is over; `None`: it was stopped.
    pub fn end(&mut self, end: Option<Result<Figures, String>>) {
        self.is_answering = false;
        match end {
            Some(Ok(figures)) => self.figures = Some(figures),
            Some(Err(why)) => self.note(why),
            None if self.is_due => {}
            None => self.note("stopped".to_owned()),
        }
        self.turns.retain(|t| t.who != Who::Model || !t.text.is_empty());
    }

    fn push(&mut self, who: Who, text: String, label: Option<String>) {
        // While an answer comes, what is said goes after it all the same: the answer is the last of the model's turns.
        self.turns.push(Turn { who, text, label });
        let bytes = |turns: &[Turn]| turns.iter().map(|t| t.text.len()).sum::<usize>();
        while self.turns.len() > limits::CHAT_TURNS_MAX || bytes(&self.turns) > limits::CHAT_BYTES_MAX {
            self.turns.remove(0); // the oldest is forgotten
        }
    }

    /// Something that the program has to say.
    pub fn note(&mut self, text: String) {
        self.push(Who::Note, text, None);
    }

    /// A message of the person.
    pub fn say(&mut self, text: &str) {
        self.push(Who::You, text.to_owned(), None);
        (self.is_due, self.scrolled) = (true, 0);
    }

    /// Adds a file to what the model sees.
    ///
    /// # Errors
    /// See `edit::Source::read`; words.
    pub fn add_file(&mut self, path: &Path) -> Result<(), String> {
        let source = edit::Source::read(path, false).map_err(|e| e.to_string())?;
        if source.bytes.is_none() {
            return Err(format!("{}: there is no such file", path.display()));
        }
        let label = format!("the file {} ({} bytes)", path.display(), source.text.len());
        self.push(
            Who::You,
            format!("The file `{}`:\n\n{}", path.display(), edit::prompt::fenced(&source.text)),
            Some(label),
        );
        Ok(())
    }

    /// The conversation as the API wants it: what one side said in a row is one message.
    pub fn messages(&self) -> Vec<Value> {
        let mut out: Vec<(&str, String)> = self.system.iter().map(|s| ("system", s.clone())).collect();
        for turn in self.turns.iter().filter(|t| !t.text.is_empty()) {
            let role = match turn.who {
                Who::You => "user",
                Who::Model => "assistant",
                Who::Note => continue,
            };
            match out.last_mut().filter(|(last, _)| *last == role) {
                Some((_, text)) => *text = format!("{text}\n\n{}", turn.text),
                None => out.push((role, turn.text.clone())),
            }
        }
        out.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect()
    }

    /// Text from the clipboard.
    pub fn paste(&mut self, text: &str) {
        let room = limits::CHAT_INPUT_BYTES_MAX.saturating_sub(self.input.len());
        let end = text.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|end| *end <= room).last().unwrap_or(0);
        let text = text[..end].replace("\r\n", "\n").replace('\r', "\n");
        self.input.insert_str(self.cursor, &text);
        self.cursor += text.len();
    }

    /// What a key does.
    pub fn key(&mut self, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        let has = |m| key.modifiers.contains(m);
        match key.code {
            KeyCode::Char('c') if has(KeyModifiers::CONTROL) => return Wish::Quit,
            KeyCode::Char('d') if has(KeyModifiers::CONTROL) && self.input.is_empty() => return Wish::Quit,
            KeyCode::Char('j') if has(KeyModifiers::CONTROL) => self.paste("\n"),
            KeyCode::Char('u') if has(KeyModifiers::CONTROL) => self.clear_input(),
            KeyCode::Enter if has(KeyModifiers::ALT) || has(KeyModifiers::SHIFT) => self.paste("\n"),
            KeyCode::Enter => return self.enter(),
            KeyCode::Esc if self.is_answering => return Wish::Stop,
            KeyCode::Char(c) if !has(KeyModifiers::CONTROL) => self.paste(c.encode_utf8(&mut [0; 4])),
            KeyCode::Backspace => {
                if let Some(before) = self.input[..self.cursor].chars().next_back() {
                    self.cursor -= before.len_utf8();
                    self.input.remove(self.cursor);
                }
            }
            KeyCode::Delete if self.cursor < self.input.len() => drop(self.input.remove(self.cursor)),
            KeyCode::Left => self.cursor -= self.input[..self.cursor].chars().next_back().map_or(0, char::len_utf8),
            KeyCode::Right => self.cursor += self.input[self.cursor..].chars().next().map_or(0, char::len_utf8),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.input.len(),
            KeyCode::PageUp => self.scrolled = self.scrolled.saturating_add(10),
            KeyCode::PageDown => self.scrolled = self.scrolled.saturating_sub(10),
            KeyCode::Up => self.scrolled = self.scrolled.saturating_add(1),
            KeyCode::Down => self.scrolled = self.scrolled.saturating_sub(1),
            _ => {}
        }
        Wish::Nothing
    }

    fn clear_input(&mut self) {
        self.input.clear();
        self.cursor = 0;
    }

    fn enter(&mut self) -> Wish {
        let line = self.input.trim().to_owned();
        self.clear_input();
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
        match command {
            "" => return Wish::Nothing,
            "/quit" | "/exit" => return Wish::Quit,
            "/clear" => {
                self.turns.clear();
                (self.figures, self.is_due, self.scrolled) = (None, false, 0);
                return if self.is_answering { Wish::Stop } else { Wish::Nothing };
            }
            "/file" => {
                if let Err(why) = self.add_file(Path::new(rest.trim())) {
                    self.note(why);
                }
                return Wish::Nothing;
            }
            word if word.starts_with('/') && !word[1..].contains('/') => {
                self.note(format!("{word} is none of /file PATH, /clear and /quit"));
                return Wish::Nothing;
            }
            _ => self.say(&line),
        }
        if self.is_answering { Wish::Stop } else { Wish::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(talk: &mut Talk, code: KeyCode) -> Wish {
        talk.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn enter(talk: &mut Talk, text: &str) -> Wish {
        text.chars().for_each(|c| assert_eq!(press(talk, KeyCode::Char(c)), Wish::Nothing));
        press(talk, KeyCode::Enter)
    }

    fn figures() -> Figures {
        Figures { tokens: 11, ttft_s: 0.05, decode_s: 0.1, is_cut: false }
    }

    fn contents(talk: &Talk) -> Vec<(String, String)> {
        let field = |m: &Value, f: &str| m[f].as_str().unwrap().to_owned();
        talk.messages().iter().map(|m| (field(m, "role"), field(m, "content"))).collect()
    }

    #[test]
    fn writing_while_it_answers_stops_it_and_keeps_what_it_said() {
        let mut talk = Talk::new(Some("short".into()));
        assert_eq!(enter(&mut talk, "sort it"), Wish::Nothing);
        assert!(talk.is_due());
        talk.begin();
        talk.hear("Use bub");
        assert_eq!(enter(&mut talk, "no, quick"), Wish::Stop);
        assert!(!talk.is_due(), "the first answer is not over");
        talk.hear("ble"); // was on its way
        talk.end(None);
        assert!(talk.is_due());
        let said = [("system", "short"), ("user", "sort it"), ("assistant", "Use bubble"), ("user", "no, quick")];
        assert_eq!(contents(&talk), said.map(|(r, c)| (r.to_owned(), c.to_owned())));
        talk.begin();
        talk.hear("Use quicksort");
        talk.end(Some(Ok(figures())));
        assert_eq!(contents(&talk).last().unwrap().1, "Use quicksort");
        assert_eq!(talk.figures.unwrap().line(), "11 tokens, ttft 50 ms, 100 tok/s");
    }

    #[test]
    fn keys_edit_stop_and_end() {
        let mut talk = Talk::new(None);
        talk.paste("aé\r\nb");
        press(&mut talk, KeyCode::Left);
        press(&mut talk, KeyCode::Left);
        press(&mut talk, KeyCode::Backspace);
        press(&mut talk, KeyCode::Delete);
        assert_eq!(talk.input, "ab");
        assert_eq!(
            (press(&mut talk, KeyCode::Esc), talk.input.as_str()),
            (Wish::Nothing, "ab"),
            "the answer just ended"
        );
        assert_eq!(talk.key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL)), Wish::Nothing);
        assert!(talk.input.is_empty());
        assert_eq!(press(&mut talk, KeyCode::Enter), Wish::Nothing);
        talk.say("x");
        talk.begin();
        assert_eq!(press(&mut talk, KeyCode::Esc), Wish::Stop);
        talk.end(None);
        assert_eq!(contents(&talk).len(), 1, "an empty answer leaves nothing");
        assert_eq!(enter(&mut talk, "/clear"), Wish::Nothing);
        assert_eq!((talk.messages().len(), enter(&mut talk, "/nonsense"), talk.is_due()), (0, Wish::Nothing, false));
        assert_eq!(enter(&mut talk, "/quit"), Wish::Quit);
        talk.paste(&"é".repeat(limits::CHAT_INPUT_BYTES_MAX));
        assert!(talk.input.len() <= limits::CHAT_INPUT_BYTES_MAX);
    }

    #[test]
    fn files_go_along_and_secrets_do_not() {
        let dir = std::env::temp_dir().join(format!("vonk-chat-test-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
        write("a.md", "```\nx\n```\n");
        write(".env", "KEY=1");
        let mut talk = Talk::new(None);
        enter(&mut talk, &format!("/file {}", dir.join("a.md").display()));
        enter(&mut talk, &format!("/file {}", dir.join(".env").display()));
        enter(&mut talk, &format!("/file {}", dir.join("none").display()));
        enter(&mut talk, "what is it?");
        std::fs::remove_dir_all(&dir).unwrap();
        let said = contents(&talk);
        assert_eq!(said.len(), 1, "one message: {said:?}");
        assert!(
            said[0].1.contains("````\n```\nx\n```\n````\n\nwhat is it?") && !said[0].1.contains("KEY"),
            "{}",
            said[0].1
        );
        assert_eq!(talk.turns.iter().filter(|t| t.who == Who::Note).count(), 2);
    }

    #[test]
    fn a_long_talk_is_bounded() {
        let mut talk = Talk::new(None);
        (0..20).for_each(|_| talk.say(&"x".repeat(limits::CHAT_BYTES_MAX / 8)));
        assert!(talk.turns.len() < 9);
        (0..2 * limits::CHAT_TURNS_MAX).for_each(|_| talk.say("y"));
        assert!(talk.turns.len() <= limits::CHAT_TURNS_MAX);
    }
}
