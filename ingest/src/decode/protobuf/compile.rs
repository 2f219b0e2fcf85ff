//! A registry's `.proto` texts, compiled where they are used.

use std::collections::BTreeMap;

use prost_reflect::{FileDescriptor, MessageDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use crate::registry::Registered;

/// Texts by the name that others import them by.
struct Texts(BTreeMap<String, String>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// The file of a schema, with all it imports.
pub(super) fn compiled(registered: &Registered) -> Result<FileDescriptor, String> {
    let name = format!("schema_{}.proto", registered.id);
    let mut texts: BTreeMap<String, String> = registered.references.iter().cloned().collect();
    texts.insert(name.clone(), registered.text.clone());
    let mut resolver = ChainFileResolver::new();
    resolver.add(Texts(texts));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler
        .include_imports(true)
        .open_file(&name)
        .map_err(|error| error.to_string())?;
    compiler
        .descriptor_pool()
        .get_file_by_name(&name)
        .ok_or_else(|| "it has no file of its own".to_owned())
}

/// Names of a schema's messages by their place in it.
#[derive(Debug)]
pub(super) struct Messages(BTreeMap<Vec<usize>, String>);

impl Messages {
    pub(super) fn of(registered: &Registered) -> Result<Self, String> {
        fn add(
            names: &mut BTreeMap<Vec<usize>, String>,
            place: &mut Vec<usize>,
            messages: impl Iterator<Item = MessageDescriptor>,
        ) {
            // The entries of maps are messages too, but none that the registry counts.
            for (at, message) in messages.filter(|it| !it.is_map_entry()).enumerate() {
                place.push(at);
                names.insert(place.clone(), message.full_name().to_owned());
                add(names, place, message.child_messages());
                place.pop();
            }
        }
        let mut names = BTreeMap::new();
        add(
            &mut names,
            &mut Vec::new(),
            compiled(registered)?.messages(),
        );
        Ok(Self(names))
    }

    pub(super) fn name(&self, place: &[usize]) -> Option<&str> {
        self.0.get(place).map(String::as_str)
    }
}

/// Which message of its schema a payload is: how many numbers, and the numbers, all zigzag; a lone zero
/// stands for the first message. And what follows.
pub(super) fn indexes(payload: &[u8]) -> Option<(Vec<usize>, &[u8])> {
    let (count, mut rest) = zigzag(payload)?;
    if count == 0 {
        return Some((vec![0], rest));
    }
    // No schema nests deeper, and no number may make us reserve more.
    let mut place = Vec::new();
    for _ in 0..usize::try_from(count).ok().filter(|count| *count <= 64)? {
        let (index, after) = zigzag(rest)?;
        place.push(usize::try_from(index).ok()?);
        rest = after;
    }
    Some((place, rest))
}

fn zigzag(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value: u64 = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(at).ok()?)?;
        if byte & 0x80 == 0 {
            let number = (value >> 1).cast_signed() ^ -((value & 1).cast_signed());
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}
