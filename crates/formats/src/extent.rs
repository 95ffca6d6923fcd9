//! A run of bytes inside a file. The constructor is the one place where an offset and a length from a file become
//! something that code may slice with, so the whole class of "tensor outside the file" bugs ends here.

/// `offset .. offset + len`, known to lie inside the file it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent {
    offset: u64,
    len: u64,
}

impl Extent {
    /// `None` when the run does not lie wholly inside a file of `file_len` bytes, or its end does not fit `u64`.
    pub fn new(offset: u64, len: u64, file_len: u64) -> Option<Extent> {
        let end = offset.checked_add(len)?;
        (end <= file_len).then_some(Extent { offset, len })
    }

    /// First byte, counted from the start of the file.
    pub fn offset(self) -> u64 {
        self.offset
    }

    /// Bytes.
    pub fn len(self) -> u64 {
        self.len
    }

    /// No bytes at all.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// One past the last byte. Cannot wrap: the constructor checked it.
    pub fn end(self) -> u64 {
        self.offset.saturating_add(self.len)
    }

    /// The bytes themselves; `None` when `file` is shorter than the file this was checked against.
    pub fn of(self, file: &[u8]) -> Option<&[u8]> {
        let start = usize::try_from(self.offset).ok()?;
        let end = usize::try_from(self.end()).ok()?;
        file.get(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_runs_inside_the_file_exist() {
        assert!(Extent::new(0, 10, 10).is_some());
        assert!(Extent::new(10, 0, 10).is_some());
        assert!(Extent::new(1, 10, 10).is_none());
        assert!(Extent::new(11, 0, 10).is_none());
        assert!(Extent::new(u64::MAX, 1, u64::MAX).is_none());
        assert!(Extent::new(u64::MAX - 31, 64, u64::MAX).is_none());
    }

    #[test]
    fn a_shorter_file_gives_nothing() {
        let e = Extent::new(2, 3, 5).unwrap();
        assert_eq!(e.of(&[0, 1, 2, 3, 4]), Some(&[2u8, 3, 4][..]));
        assert_eq!(e.of(&[0, 1, 2, 3]), None);
    }
}
