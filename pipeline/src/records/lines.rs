//! Lines of JSON, with or without gzip, in bounded memory. A line that is too long becomes a reject; a damaged stream gives
//! its valid lines and then one reject.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::{
    expansion::{Compressed, Counted, Expanded, TooMuch},
    item::{Content, HEAD_BYTES, Item},
    reject::Reject,
};

/// Windows programs write it at the start of a text.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The lines of one document. Blank lines are ignored.
pub struct Lines<'a> {
    reader: Option<Box<dyn BufRead + 'a>>,
    max_line_bytes: usize,
    number: u64,
    offset: u64,
    /// A reject of the whole file, returned before the next line.
    finding: Option<Reject>,
    /// Reason for a stream that ends with an error.
    broken: Reject,
    /// Did the document have a line that is not blank?
    any: bool,
}

impl<'a> Lines<'a> {
    /// `packed`: the name of the document ends with `.gz`. `broken`: the reason for a stream that ends with an error.
    pub fn new(reader: impl Read + 'a, packed: bool, broken: Reject, max_line_bytes: usize) -> Self {
        let compressed = Compressed::default();
        let mut reader = BufReader::with_capacity(1 << 18, Counted { inner: reader, count: compressed.clone() });
        let broken = if packed { Reject::CorruptGzip } else { broken };
        let mut lines = Self { reader: None, max_line_bytes, number: 0, offset: 0, finding: None, broken, any: false };
        let head = match reader.fill_buf() {
            Ok(head) => head,
            Err(error) => {
                lines.finding = Some(lines.reason_of(&error));
                return lines;
            }
        };
        let is_gzip = head.starts_with(&[0x1f, 0x8b]);
        lines.finding = match (head.is_empty(), packed, is_gzip) {
            (true, ..) => Some(Reject::EmptyFile),
            (_, true, false) => Some(Reject::NotGzip),
            (_, false, true) => Some(Reject::UnexpectedGzip),
            _ => None,
        };
        if lines.finding.is_none() {
            lines.reader = Some(if packed {
                Box::new(BufReader::with_capacity(1 << 18, Expanded::new(MultiGzDecoder::new(reader), compressed)))
            } else {
                Box::new(reader)
            });
        }
        lines
    }

    fn reject(&self, reject: Reject, head: Vec<u8>) -> Item {
        Item { number: self.number, offset: self.offset, content: Content::Rejected(reject, head) }
    }

    /// The reject of a stream that ends with an error.
    fn reason_of(&self, error: &io::Error) -> Reject {
        if TooMuch::is(error) { Reject::TooMuch } else { self.broken.clone() }
    }

    /// Reads to the end of the line. Returns its length in bytes, and the error where the stream ended with one.
    fn rest_of_line(reader: &mut dyn BufRead) -> (u64, Option<io::Error>) {
        let mut length = 0;
        loop {
            let buffer = match reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) => return (length, Some(error)),
            };
            if buffer.is_empty() {
                return (length, None);
            }
            if let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
                reader.consume(end + 1);
                return (length + end as u64 + 1, None);
            }
            length += buffer.len() as u64;
            let all = buffer.len();
            reader.consume(all);
        }
    }
}

impl Iterator for Lines<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        if let Some(finding) = self.finding.take() {
            return Some(self.reject(finding, Vec::new()));
        }
        loop {
            let reader = self.reader.as_mut()?;
            let mut line = Vec::new();
            let limit = self.max_line_bytes as u64 + 1;
            let result = reader.by_ref().take(limit).read_until(b'\n', &mut line);
            self.number += 1;
            let offset = self.offset;
            self.offset += line.len() as u64;
            if let Err(error) = result {
                let reason = self.reason_of(&error);
                self.reader = None;
                line.truncate(HEAD_BYTES);
                return Some(Item { number: self.number, offset, content: Content::Rejected(reason, line) });
            }
            if line.is_empty() {
                self.reader = None;
                return (!self.any).then(|| self.reject(Reject::EmptyFile, Vec::new()));
            }
            if line.len() > self.max_line_bytes && line.last() != Some(&b'\n') {
                let (rest, error) = Self::rest_of_line(reader.as_mut());
                self.offset += rest;
                self.any = true;
                if let Some(error) = error {
                    self.reader = None;
                    self.finding = Some(self.reason_of(&error));
                }
                line.truncate(HEAD_BYTES);
                return Some(Item { number: self.number, offset, content: Content::Rejected(Reject::LineTooLong, line) });
            }
            if offset == 0 && line.starts_with(BYTE_ORDER_MARK) {
                line.drain(..BYTE_ORDER_MARK.len());
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            self.any = true;
            return Some(Item { number: self.number, offset, content: Content::Line(line) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gz(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(name: &str, bytes: &[u8]) -> Vec<String> {
        Lines::new(bytes, name.ends_with(".gz"), Reject::CorruptZip, 20)
            .map(|line| match line.content {
                Content::Line(text) => format!("{}@{} {}", line.number, line.offset, String::from_utf8_lossy(&text).trim()),
                Content::Rejected(reject, _) => format!("{}@{} !{reject}", line.number, line.offset),
                Content::Row(_) => unreachable!("a document of lines has no rows"),
            })
            .collect()
    }

    #[test]
    fn valid_lines_are_read_next_to_rejected_ones() {
        assert_eq!(read("a.jsonl", b"one\n\ntwo"), ["1@0 one", "3@5 two"]);
        let long = [b"x".repeat(1000), b"\nend\n".to_vec()].concat();
        assert_eq!(read("a.jsonl", &long), ["1@0 !line too long", "2@1001 end"]);
        assert_eq!(read("a.jsonl", "\u{feff}one\r\ntwo\r\n".as_bytes()), ["1@0 one", "2@8 two"]);
        assert_eq!(read("a.jsonl.gz", &gz(b"one\ntwo\n")), ["1@0 one", "2@4 two"]);
        assert_eq!(read("a.jsonl.gz", b"one\n"), ["0@0 !not gzip"]);
        assert_eq!(read("a.jsonl", &gz(b"one\n")), ["0@0 !gzip under a plain name"]);
        assert_eq!(read("a.jsonl", b""), ["0@0 !empty file"]);
        assert_eq!(read("a.jsonl.gz", &gz(b"")), ["1@0 !empty file"]);
        assert_eq!(read("a.jsonl", b"\n  \n"), ["3@4 !empty file"]);
        let two_members = [gz(b"one\n"), gz(b"two\n")].concat();
        assert_eq!(read("a.jsonl.gz", &two_members), ["1@0 one", "2@4 two"]);
    }

    #[test]
    fn a_small_file_that_holds_far_more_than_its_size_ends() {
        for content in [&b"\n"[..], b"x", b"x\n"] {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(&content.repeat((200 << 20) / content.len())).unwrap();
            let packed = encoder.finish().unwrap();
            assert!(packed.len() < 400_000);
            let mut lines = Lines::new(&packed[..], true, Reject::CorruptZip, 20);
            let last = lines.by_ref().last().unwrap();
            assert!(matches!(last.content, Content::Rejected(Reject::TooMuch, _)), "{content:?}");
        }
    }

    #[test]
    fn a_truncated_gzip_gives_its_valid_lines_and_one_reject() {
        let noise: Vec<u8> = (0..4000u32).flat_map(|n| format!("{:x}\n", n.wrapping_mul(2_654_435_761)).into_bytes()).collect();
        let packed = gz(&noise);
        let lines = read("a.jsonl.gz", &packed[..packed.len() / 2]);
        assert!(lines.len() > 500);
        assert!(lines.last().unwrap().ends_with("!truncated or corrupt gzip"));
        assert_eq!(lines.iter().filter(|line| line.contains('!')).count(), 1);
    }
}
