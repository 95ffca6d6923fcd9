//! Reading hostile JSON: UTF-8 and nesting are checked by one linear scan before any parser runs, then values are read
//! field by field from their raw text, so that every error names its path and unknown fields cost no memory.

use base::limits;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

use crate::error::ApiError;

/// Checks encoding, nesting and syntax; returns the document as a field without a name.
///
/// # Errors
/// 400 with the byte offset (UTF-8, nesting) or line and column (syntax).
pub fn document(bytes: &[u8]) -> Result<Field<'_>, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        ApiError::bad_request(
            "invalid_utf8",
            format!("The body is not valid UTF-8 at byte {}. Encode it as UTF-8.", e.valid_up_to()),
        )
    })?;
    check_depth(bytes)?;
    let raw: &RawValue = serde_json::from_str(text).map_err(|e| {
        let hint = "Send one JSON object.";
        let message = match (text.trim().is_empty(), e.line()) {
            (true, _) => format!("The body is empty. {hint}"),
            (false, line) => format!("The body is not valid JSON at line {line}, column {}: {e}. {hint}", e.column()),
        };
        ApiError::bad_request("invalid_json", message)
    })?;
    Ok(Field { path: String::new(), raw })
}

/// Refuses arrays and objects nested deeper than `JSON_DEPTH_MAX`; brackets within strings do not count.
///
/// # Errors
/// 400 with the byte offset of the bracket that is too deep.
pub fn check_depth(bytes: &[u8]) -> Result<(), ApiError> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (at, &b) in bytes.iter().enumerate() {
        if in_string {
            in_string = escaped || b != b'"';
            escaped = !escaped && b == b'\\';
            continue;
        }
        match b {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > limits::JSON_DEPTH_MAX {
                    let max = limits::JSON_DEPTH_MAX;
                    return Err(ApiError::bad_request(
                        "json_too_deep",
                        format!("The JSON nests deeper than {max} levels at byte {at}. Flatten it."),
                    ));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// A value that was sent, with the path by which errors name it.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    /// Such as `messages[2].content`; empty for the document itself.
    pub path: String,
    raw: &'a RawValue,
}

impl<'a> Field<'a> {
    /// The value's text, valid JSON.
    pub fn text(&self) -> &'a str {
        self.raw.get()
    }

    /// What kind of value this is, as people say it.
    pub fn kind(&self) -> &'static str {
        match self.raw.get().as_bytes().first() {
            Some(b'"') => "a string",
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => "a number",
        }
    }

    /// JSON `null`.
    pub fn is_null(&self) -> bool {
        self.raw.get() == "null"
    }

    /// An error about this value.
    pub fn error(&self, code: &'static str, message: impl Into<String>) -> ApiError {
        if self.path.is_empty() {
            return ApiError::bad_request(code, message);
        }
        ApiError::field(self.path.clone(), code, message)
    }

    /// An error: the value has the wrong type.
    pub fn wrong_type(&self, wanted: &str) -> ApiError {
        let what = if self.path.is_empty() { "The body".to_owned() } else { format!("`{}`", self.path) };
        self.error("invalid_type", format!("{what} must be {wanted}, but it is {}{}.", self.kind(), self.shown()))
    }

    /// An error: the value is of the right type and not allowed.
    pub fn wrong_value(&self, wanted: &str) -> ApiError {
        self.error("invalid_value", format!("`{}` must be {wanted}, but it is{}.", self.path, self.shown()))
    }

    /// Short scalars are shown in errors, so that people find them.
    fn shown(&self) -> String {
        let text = self.raw.get();
        match text.as_bytes().first() {
            Some(b'{' | b'[' | b'n') => String::new(),
            _ if text.len() > 40 => String::new(),
            _ => format!(" ({text})"),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// Another type, or half a surrogate pair in `\u` escapes.
    pub fn string(&self) -> Result<String, ApiError> {
        if !self.raw.get().starts_with('"') {
            return Err(self.wrong_type("a string"));
        }
        serde_json::from_str(self.raw.get()).map_err(|_| {
            self.error(
                "invalid_string",
                format!("`{}` holds half of a surrogate pair (\\ud800..\\udfff). Send whole characters.", self.path),
            )
        })
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// Another type.
    pub fn boolean(&self) -> Result<bool, ApiError> {
        match self.raw.get() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.wrong_type("true or false")),
        }
    }

    /// A finite number within `min..=max`.
    ///
    /// # Errors
    /// Another type, or out of range.
    pub fn number(&self, min: f64, max: f64) -> Result<f64, ApiError> {
        let wanted = format!("a number from {min} to {max}");
        if self.kind() != "a number" {
            return Err(self.wrong_type(&wanted));
        }
        match self.raw.get().parse::<f64>() {
            Ok(x) if x >= min && x <= max => Ok(x + 0.0), // -0 becomes 0
            _ => Err(self.wrong_value(&wanted)),
        }
    }

    /// An integer within `min..=max`, written without fraction or exponent.
    ///
    /// # Errors
    /// Another type, not an integer, or out of range.
    pub fn integer(&self, min: i128, max: i128) -> Result<i128, ApiError> {
        let wanted = format!("an integer from {min} to {max}");
        let text = self.raw.get();
        if self.kind() != "a number" || text.contains(['.', 'e', 'E']) {
            return Err(self.wrong_type(&wanted));
        }
        match text.parse::<i128>() {
            Ok(x) if (min..=max).contains(&x) => Ok(x),
            _ => Err(self.wrong_value(&wanted)),
        }
    }

    /// An array of at most `max` elements.
    ///
    /// # Errors
    /// Another type, or too many.
    pub fn array(&self, max: usize) -> Result<Vec<Field<'a>>, ApiError> {
        let named = |(i, raw)| Field { path: format!("{}[{i}]", self.path), raw };
        Ok(self.raws(max)?.into_iter().enumerate().map(named).collect())
    }

    fn raws(&self, max: usize) -> Result<Vec<&'a RawValue>, ApiError> {
        if self.kind() != "an array" {
            return Err(self.wrong_type("an array"));
        }
        let mut too_many = false;
        let read = Elements { max, too_many: &mut too_many }
            .deserialize(&mut serde_json::Deserializer::from_str(self.raw.get()));
        match read {
            Ok(raws) => Ok(raws),
            Err(_) if too_many => {
                let message = format!("`{}` has more than {max} elements. Send at most {max}.", self.path);
                Err(self.error("too_many", message))
            }
            Err(e) => Err(self.error("invalid_json", format!("`{}` cannot be read: {e}.", self.path))),
        }
    }

    /// Kind of the first element of an array, `None` if it is empty.
    pub fn first_kind(&self) -> Option<&'static str> {
        match self.raw.get().get(1..)?.trim_start().as_bytes().first()? {
            b']' => None,
            b'"' => Some("a string"),
            b'[' => Some("an array"),
            b'0'..=b'9' | b'-' => Some("a number"),
            _ => Some("something else"),
        }
    }

    /// An array of at most `len_max` integers within `0..=max`; no path is built for elements that are right.
    ///
    /// # Errors
    /// Another type, too many, or the first element that is wrong.
    pub fn u32s(&self, len_max: usize, max: u32) -> Result<Vec<u32>, ApiError> {
        let one = |(i, raw): (usize, &'a RawValue)| match raw.get().parse::<u32>() {
            Ok(x) if x <= max => Ok(x),
            _ => {
                let field = Field { path: format!("{}[{i}]", self.path), raw };
                Err(match field.integer(0, max.into()) {
                    Err(e) => e,
                    Ok(_) => field.wrong_value("an integer without a sign"),
                })
            }
        };
        self.raws(len_max)?.into_iter().enumerate().map(one).collect()
    }

    /// An object of which only these fields matter.
    ///
    /// # Errors
    /// Another type, or a field that matters is there twice.
    pub fn object<const N: usize>(&self, names: &'static [&'static str; N]) -> Result<Object<'a, N>, ApiError> {
        if self.kind() != "an object" {
            return Err(self.wrong_type("an object"));
        }
        let mut twice = None;
        let raws = Fields { names, twice: &mut twice }
            .deserialize(&mut serde_json::Deserializer::from_str(self.raw.get()))
            .map_err(|e| self.error("invalid_json", format!("Invalid JSON: {e}.")))?;
        let object = Object { path: self.path.clone(), names, raws };
        match twice {
            Some(name) => {
                let path = object.path_of(name);
                Err(ApiError::field(path.clone(), "duplicate_field", format!("`{path}` is there twice. Send it once.")))
            }
            None => Ok(object),
        }
    }

    /// All entries of an object of at most `max`.
    ///
    /// # Errors
    /// Another type, or too many.
    pub fn entries(&self, max: usize) -> Result<Vec<(String, Field<'a>)>, ApiError> {
        if self.kind() != "an object" {
            return Err(self.wrong_type("an object"));
        }
        let mut too_many = false;
        let read = Entries { max, too_many: &mut too_many }
            .deserialize(&mut serde_json::Deserializer::from_str(self.raw.get()));
        match read {
            Ok(entries) => Ok(entries
                .into_iter()
                .map(|(key, raw)| {
                    let path = format!("{}.{}", self.path, key.chars().take(64).collect::<String>());
                    (key, Field { path, raw })
                })
                .collect()),
            Err(_) if too_many => {
                Err(self.error("too_many", format!("`{}` has more than {max} entries. Send at most {max}.", self.path)))
            }
            Err(e) => Err(self.error("invalid_json", format!("`{}` cannot be read: {e}.", self.path))),
        }
    }

    /// The whole value as a tree, if its text is at most `bytes_max` long.
    ///
    /// # Errors
    /// Too long, or half a surrogate pair, or a number beyond f64.
    pub fn value(&self, bytes_max: usize) -> Result<serde_json::Value, ApiError> {
        if self.raw.get().len() > bytes_max {
            let message = format!("`{}` is longer than {bytes_max} bytes of JSON. Send less.", self.path);
            return Err(self.error("too_long", message));
        }
        serde_json::from_str(self.raw.get())
            .map_err(|e| self.error("invalid_json", format!("`{}` cannot be read: {e}.", self.path)))
    }
}

/// The fields of an object that matter.
#[derive(Debug)]
pub struct Object<'a, const N: usize> {
    path: String,
    names: &'static [&'static str; N],
    raws: [Option<&'a RawValue>; N],
}

impl<'a, const N: usize> Object<'a, N> {
    /// The field of this name, unless it is absent or null.
    pub fn get(&self, name: &'static str) -> Option<Field<'a>> {
        let i = self.names.iter().position(|n| *n == name);
        debug_assert!(i.is_some(), "{name} is not among the names of this object");
        let raw = *self.raws.get(i?)?;
        Some(Field { path: self.path_of(name), raw: raw? }).filter(|f| !f.is_null())
    }

    /// The field of this name; an error with this advice if it is absent or null.
    ///
    /// # Errors
    /// 400, `missing_field`.
    pub fn need(&self, name: &'static str, advice: &str) -> Result<Field<'a>, ApiError> {
        self.get(name).ok_or_else(|| {
            let path = self.path_of(name);
            ApiError::field(path.clone(), "missing_field", format!("`{path}` is missing. {advice}"))
        })
    }

    /// The path of a field of this object.
    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

struct Fields<'n, const N: usize> {
    names: &'static [&'static str; N],
    twice: &'n mut Option<&'static str>,
}

impl<'de, const N: usize> DeserializeSeed<'de> for Fields<'_, N> {
    type Value = [Option<&'de RawValue>; N];
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Fields<'_, N> {
    type Value = [Option<&'de RawValue>; N];
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut raws = [None; N];
        while let Some(i) = map.next_key_seed(Name(self.names))? {
            match i {
                Some(i) => {
                    if raws[i].replace(map.next_value::<&RawValue>()?).is_some() {
                        self.twice.get_or_insert(self.names[i]);
                    }
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(raws)
    }
}

/// A key as its place among the known names.
struct Name(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<usize>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_bytes(self) // bytes: a key that is not whole Unicode is unknown, not an error
    }
}

impl Visitor<'_> for Name {
    type Value = Option<usize>;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_bytes<E>(self, key: &[u8]) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| name.as_bytes() == key))
    }
    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}

struct Elements<'n> {
    max: usize,
    too_many: &'n mut bool,
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = Vec<&'de RawValue>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = Vec<&'de RawValue>;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut raws = Vec::new();
        while let Some(raw) = seq.next_element::<&RawValue>()? {
            if raws.len() == self.max {
                *self.too_many = true;
                return Err(serde::de::Error::custom("too many"));
            }
            raws.push(raw);
        }
        Ok(raws)
    }
}

struct Entries<'n> {
    max: usize,
    too_many: &'n mut bool,
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = Vec<(String, &'de RawValue)>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = Vec<(String, &'de RawValue)>;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry::<String, &RawValue>()? {
            if entries.len() == self.max {
                *self.too_many = true;
                return Err(serde::de::Error::custom("too many"));
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings_only() {
        let max = limits::JSON_DEPTH_MAX;
        assert!(check_depth(format!("{}{}", "[".repeat(max), "]".repeat(max)).as_bytes()).is_ok());
        let e = check_depth("[".repeat(max + 1).as_bytes()).unwrap_err();
        assert!(e.message.contains(&format!("byte {max}")), "{e}");
        assert!(check_depth(format!("\"{}\"", "[".repeat(9999)).as_bytes()).is_ok());
        assert!(check_depth(format!("\"\\\"{}\"", "{".repeat(9999)).as_bytes()).is_ok());
        assert!(check_depth(format!("\"\\\\\"{}", "{".repeat(9999)).as_bytes()).is_err());
        assert!(check_depth("]".repeat(9999).as_bytes()).is_ok());
    }

    #[test]
    fn numbers_are_ranges_and_integers_are_integers() {
        let read = |s: &str| Field { path: "x".into(), raw: serde_json::from_str(s).unwrap() }.number(0.0, 2.0);
        assert_eq!(read("2").unwrap(), 2.0);
        assert!(read("-0").unwrap().is_sign_positive());
        for bad in ["2.0000001", "-1e-9", "1e308", "1e999", "\"1\"", "null", "true", "[]"] {
            let e = read(bad).unwrap_err();
            assert_eq!((e.status, e.param.as_deref()), (400, Some("x")), "{bad}");
            assert!(e.message.contains("from 0 to 2"), "{e}");
        }
        let read = |s: &str| Field { path: "x".into(), raw: serde_json::from_str(s).unwrap() }.integer(-1, 3);
        assert_eq!(read("-1").unwrap(), -1);
        for bad in ["4", "-2", "1.0", "1e0", "99999999999999999999999999999999999999999999999", "{}"] {
            assert_eq!(read(bad).unwrap_err().status, 400, "{bad}");
        }
    }

    #[test]
    fn a_field_that_matters_may_not_be_there_twice() {
        let doc = document(br#"{"a":1,"b":2,"b":3}"#).unwrap();
        assert!(doc.object(&["a"]).is_ok());
        assert_eq!(doc.object(&["b"]).unwrap_err().param.as_deref(), Some("b"));
    }

    #[test]
    fn a_million_unknown_fields_and_elements_are_passed_over() {
        let body = format!("{{{}\"a\":[{}0]}}", "\"z\":0,".repeat(1_000_000), "0,".repeat(1_000_000));
        let doc = document(body.as_bytes()).unwrap();
        let e = doc.object(&["a"]).unwrap().get("a").unwrap().array(7).unwrap_err();
        assert_eq!(e.code, Some("too_many"));
    }
}
