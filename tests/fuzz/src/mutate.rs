//! Changes that suit any text or bytes: bits, numbers, lines, pieces, words of a dictionary.
//!
//! It knows no format; what does builds on it.

use crate::Random;

/// Inputs do not grow beyond this.
pub const LONGEST: usize = 64 << 10;

/// Numbers at which readers go wrong.
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "1",
    "2147483648",
    "4294967295",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e999",
    "-0",
    "0.1",
    "00000000000000000000000000000000",
];

/// One change of bytes.
pub fn bytes(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    if input.is_empty() {
        input.extend_from_slice(&other[..other.len().min(64)]);
        input.push(random.number() as u8);
        return;
    }
    let at = random.below(input.len());
    match random.below(8) {
        0 => input[at] ^= 1 << random.below(8),
        1 => input[at] = random.number() as u8,
        2 => input[at] = *random.pick(&[0, 0xff, 0x7f, 0x80, b'/', b'.', b'"', b'\n', b' ', b'\\']),
        3 => {
            let end = (at + 1 + random.below(32)).min(input.len());
            input.drain(at..end);
        }
        4 => {
            let end = (at + 1 + random.below(64)).min(input.len());
            let piece = input[at..end].to_vec();
            insert(random, input, &piece);
        }
        5 if !other.is_empty() => {
            let from = random.below(other.len());
            let end = (from + 1 + random.below(256)).min(other.len());
            insert(random, input, &other[from..end]);
        }
        6 => input.truncate(at),
        _ => input.insert(at, random.number() as u8),
    }
    input.truncate(LONGEST);
}

/// One change of a text; `words` are what its format is made of.
pub fn text(random: &mut Random, input: &mut Vec<u8>, other: &[u8], words: &[&str]) {
    match random.below(8) {
        0 | 1 => {
            let word = *random.pick(words);
            insert(random, input, word.as_bytes());
        }
        2 => number(random, input),
        3 => lines(random, input, other),
        4 => {
            // A word in place of another.
            let (from, to) = (*random.pick(words), *random.pick(words));
            if let Some(at) = find(input, from.as_bytes()) {
                input.splice(at..at + from.len(), to.bytes());
            }
        }
        5 if !input.is_empty() => {
            // What is deep, and what is long.
            let at = random.below(input.len());
            let end = (at + 1 + random.below(8)).min(input.len());
            let piece = input[at..end].repeat(1 + random.below(600));
            input.splice(at..at, piece);
        }
        _ => bytes(random, input, other),
    }
    input.truncate(LONGEST);
}

fn number(random: &mut Random, input: &mut Vec<u8>) {
    let starts: Vec<usize> = (0..input.len())
        .filter(|&at| input[at].is_ascii_digit() && (at == 0 || !input[at - 1].is_ascii_digit()))
        .collect();
    if starts.is_empty() {
        return;
    }
    let at = *random.pick(&starts);
    let length = input[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    input.splice(at..at + length, random.pick(NUMBERS).bytes());
}

fn lines(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    let mut all: Vec<Vec<u8>> = input.split_inclusive(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
    if all.is_empty() {
        return;
    }
    let (from, to) = (random.below(all.len()), random.below(all.len()));
    match random.below(4) {
        0 => all.swap(from, to),
        1 => all.insert(to, all[from].clone()),
        2 => {
            all.remove(from);
        }
        _ => {
            let theirs: Vec<&[u8]> = other.split_inclusive(|&b| b == b'\n').collect();
            if !theirs.is_empty() {
                all.insert(to, random.pick(&theirs).to_vec());
            }
        }
    }
    *input = all.concat();
}

fn insert(random: &mut Random, input: &mut Vec<u8>, piece: &[u8]) {
    let at = random.below(input.len() + 1);
    input.splice(at..at, piece.iter().copied());
}

fn find(input: &[u8], word: &[u8]) -> Option<usize> {
    input.windows(word.len().max(1)).position(|window| window == word)
}
