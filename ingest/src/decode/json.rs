//! A strict JSON scanner that finds the declared fields of one object and allocates nothing.
//!
//! It only says *where* values lie; [`super::value`] makes them typed. It accepts exactly what
//! RFC 8259 accepts (a property test holds it against `serde_json`), except objects nested deeper
//! than [`DEPTH`] and escapes of half a surrogate pair. The last of two equal keys wins.

/// Nesting above which a record is refused, so that it cannot exhaust the stack.
const DEPTH: usize = 128;

/// Where a field's value lies. Ranges count bytes of the record, or of the scratch text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Slot {
    Missing,
    Null,
    Bool(bool),
    Number(Range),
    /// A string without escapes, in the record.
    Plain(Range),
    /// A string that had escapes, in the scratch text.
    Unescaped(Range),
    /// An object or array, in the record, with its brackets.
    Object(Range),
    Array(Range),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Range {
    start: usize,
    end: usize,
}

impl Range {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// With the quotes around it.
    pub(crate) fn quoted(self) -> Self {
        Self {
            start: self.start.saturating_sub(1),
            end: self.end + 1,
        }
    }

    pub(crate) fn of(self, text: &str) -> &str {
        // The scanner made the range at character boundaries of this very text.
        text.get(self.start..self.end).unwrap_or_default()
    }
}

/// Why a record is no JSON object, and where.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Malformed {
    pub at: usize,
    pub what: &'static str,
}

/// Finds declared names quickly: records of a topic tend to have their keys in one order.
#[derive(Debug)]
pub(crate) struct Names {
    names: Vec<Box<str>>,
    // What the n-th key of the last record was.
    guesses: Vec<usize>,
}

impl Names {
    pub(crate) fn new(names: impl Iterator<Item = String>) -> Self {
        Self {
            names: names.map(String::into_boxed_str).collect(),
            guesses: Vec::new(),
        }
    }

    /// The place of a name, given that it is the n-th key of its record.
    pub(crate) fn find(&mut self, ordinal: usize, key: &str) -> Option<usize> {
        if let Some(guess) = self.guesses.get(ordinal)
            && self.names.get(*guess).is_some_and(|name| **name == *key)
        {
            return Some(*guess);
        }
        let found = self.names.iter().position(|name| **name == *key)?;
        // Keys nobody declared leave holes; a record with very many keys is not worth remembering.
        if ordinal < 4 * self.names.len() {
            if self.guesses.len() <= ordinal {
                self.guesses.resize(ordinal + 1, usize::MAX);
            }
            self.guesses[ordinal] = found;
        }
        Some(found)
    }
}

/// Reads one record. `slots` has one entry per name and is overwritten; `scratch` holds unescaped text.
pub(crate) fn scan(
    text: &str,
    names: &mut Names,
    slots: &mut [Slot],
    scratch: &mut String,
) -> Result<(), Malformed> {
    slots.fill(Slot::Missing);
    scratch.clear();
    let mut scanner = Scanner {
        text,
        bytes: text.as_bytes(),
        at: 0,
    };
    scanner.space();
    if scanner.peek() != Some(b'{') {
        let found = scanner.value(scratch, 0)?;
        scanner.end()?;
        return Err(Malformed {
            at: 0,
            what: not_an_object(found),
        });
    }
    scanner.at += 1;
    scanner.members(|scanner, ordinal| {
        let key = scanner.string(scratch)?;
        let name = match key {
            Slot::Unescaped(range) => names.find(ordinal, range.of(scratch)),
            Slot::Plain(range) => names.find(ordinal, range.of(text)),
            _ => None,
        };
        scanner.colon()?;
        let value = scanner.value(scratch, 1)?;
        if let Some(slot) = name.and_then(|name| slots.get_mut(name)) {
            *slot = value;
        }
        Ok(())
    })?;
    scanner.end()
}

/// Shows every member of one object: its number, its key, and where its value lies.
pub(crate) fn members(
    text: &str,
    scratch: &mut String,
    mut member: impl FnMut(usize, &str, Slot),
) -> Result<(), Malformed> {
    scratch.clear();
    let mut scanner = Scanner {
        text,
        bytes: text.as_bytes(),
        at: 0,
    };
    scanner.space();
    if scanner.peek() != Some(b'{') {
        return scanner.fail("expected an object");
    }
    scanner.at += 1;
    scanner.members(|scanner, ordinal| {
        let key = scanner.string(scratch)?;
        scanner.colon()?;
        let value = scanner.value(scratch, 1)?;
        match key {
            Slot::Unescaped(range) => member(ordinal, range.of(scratch), value),
            Slot::Plain(range) => member(ordinal, range.of(text), value),
            _ => {}
        }
        Ok(())
    })?;
    scanner.end()
}

fn not_an_object(found: Slot) -> &'static str {
    match found {
        Slot::Array(_) => "expected an object, found an array",
        Slot::Null => "expected an object, found null",
        Slot::Bool(_) => "expected an object, found a boolean",
        Slot::Number(_) => "expected an object, found a number",
        _ => "expected an object, found a string",
    }
}

/// Marks the bytes of a word that end a run, in their highest bits: quotes, backslashes and control characters. Only
/// the lowest mark counts: subtracting borrows from the bytes above one that ends a run.
fn ends_of_run(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES * 0x80;
    let below = |bytes: u64, limit: u64| bytes.wrapping_sub(ONES * limit) & !bytes & HIGH;
    let quote = below(word ^ (ONES * 0x22), 1);
    let backslash = below(word ^ (ONES * 0x5c), 1);
    quote | backslash | below(word, 0x20)
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn fail<T>(&self, what: &'static str) -> Result<T, Malformed> {
        Err(Malformed {
            at: self.at,
            what: if self.at >= self.bytes.len() {
                "the record ends too early"
            } else {
                what
            },
        })
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Result<(), Malformed> {
        self.space();
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            self.fail("more follows after the object")
        }
    }

    fn colon(&mut self) -> Result<(), Malformed> {
        self.space();
        if self.peek() != Some(b':') {
            return self.fail("expected a colon");
        }
        self.at += 1;
        Ok(())
    }

    /// The members of an object whose brace is read; `member` reads key, colon and value.
    fn members(
        &mut self,
        mut member: impl FnMut(&mut Self, usize) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        for ordinal in 0.. {
            self.space();
            if self.peek() != Some(b'"') {
                return self.fail("expected a key in quotes");
            }
            member(self, ordinal)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fail("expected a comma or the object's end"),
            }
        }
        Ok(())
    }

    fn elements(&mut self, scratch: &mut String, depth: usize) -> Result<(), Malformed> {
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(scratch, depth)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fail("expected a comma or the array's end"),
            }
        }
    }

    fn value(&mut self, scratch: &mut String, depth: usize) -> Result<Slot, Malformed> {
        self.space();
        match self.peek() {
            Some(b'"') => self.string(scratch),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Slot::Bool(true)),
            Some(b'f') => self.word("false", Slot::Bool(false)),
            Some(b'n') => self.word("null", Slot::Null),
            Some(b'{' | b'[') if depth >= DEPTH => self.fail("nested too deeply"),
            Some(b'{') => {
                let start = self.at;
                self.at += 1;
                self.members(|scanner, _| {
                    scanner.string(scratch)?;
                    scanner.colon()?;
                    scanner.value(scratch, depth + 1).map(|_| ())
                })?;
                Ok(Slot::Object(Range::new(start, self.at)))
            }
            Some(b'[') => {
                let start = self.at;
                self.at += 1;
                self.elements(scratch, depth + 1)?;
                Ok(Slot::Array(Range::new(start, self.at)))
            }
            _ => self.fail("expected a value"),
        }
    }

    fn word(&mut self, word: &'static str, slot: Slot) -> Result<Slot, Malformed> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(slot)
        } else {
            Err(Malformed {
                at: self.at,
                what: "expected a value",
            })
        }
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            self.fail("expected a digit")
        } else {
            Ok(())
        }
    }

    fn number(&mut self) -> Result<Slot, Malformed> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Slot::Number(Range {
            start,
            end: self.at,
        }))
    }

    /// Moves to the next quote, backslash or control character of a string.
    fn run(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (words, tail) = rest.as_chunks::<8>();
        for word in words {
            let ends = ends_of_run(u64::from_le_bytes(*word));
            if ends != 0 {
                self.at += (ends.trailing_zeros() / 8) as usize;
                return;
            }
            self.at += 8;
        }
        self.at += tail
            .iter()
            .position(|byte| *byte == b'"' || *byte == b'\\' || *byte < 0x20)
            .unwrap_or(tail.len());
    }

    fn string(&mut self, scratch: &mut String) -> Result<Slot, Malformed> {
        self.at += 1;
        let start = self.at;
        self.run();
        if self.peek() == Some(b'"') {
            let range = Range {
                start,
                end: self.at,
            };
            self.at += 1;
            return Ok(Slot::Plain(range));
        }
        let kept = scratch.len();
        let mut from = start;
        loop {
            scratch.push_str(
                Range {
                    start: from,
                    end: self.at,
                }
                .of(self.text),
            );
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Slot::Unescaped(Range {
                        start: kept,
                        end: scratch.len(),
                    }));
                }
                Some(b'\\') => {
                    self.at += 1;
                    let character = self.escape()?;
                    scratch.push(character);
                }
                _ => return self.fail("a control character in a string"),
            }
            from = self.at;
            self.run();
        }
    }

    fn escape(&mut self) -> Result<char, Malformed> {
        let character = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return self.fail("an unknown escape"),
        };
        self.at += 1;
        Ok(character)
    }

    fn unicode(&mut self) -> Result<char, Malformed> {
        let high = self.hex()?;
        if !(0xD800..0xE000).contains(&high) {
            return char::from_u32(high).map_or_else(|| self.fail("half a surrogate pair"), Ok);
        }
        if high >= 0xDC00 || !self.bytes[self.at..].starts_with(b"\\u") {
            return self.fail("half a surrogate pair");
        }
        self.at += 2;
        let low = self.hex()?;
        if !(0xDC00..0xE000).contains(&low) {
            return self.fail("half a surrogate pair");
        }
        let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
        char::from_u32(code).map_or_else(|| self.fail("half a surrogate pair"), Ok)
    }

    fn hex(&mut self) -> Result<u32, Malformed> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) else {
                return self.fail("expected four hexadecimal digits");
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }
}
