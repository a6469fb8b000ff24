//! Lines of the raw files, checked in parallel and written in their order.

use std::path::Path;

use ledger::{Bar, ensure, table::RowDigest};
use rayon::prelude::*;

use super::{
    buckets::ShardKey,
    codebase::CodebaseQueries,
    kept::EarlierRows,
    members::Member,
    sink::{CheckedLine, LineLocation, Row, TableSink},
    sketches::RowSketch,
};
use crate::{
    error::{Error, Result},
    records::{Content, HEAD_BYTES, Hints, Item, Reject, parse, read_part},
};

/// Lines that are checked in parallel at a time, and their bytes.
const BATCH_LINES: usize = 1024;
const BATCH_BYTES: usize = 8 << 20;

/// A line, and what is known about it before it is read.
pub struct SourceLine {
    pub item: Item,
    pub member: Option<(RowDigest, ShardKey)>,
    pub sketch: Option<RowSketch>,
}

/// Checks lines of a document. Its parts are equal for all lines.
pub struct Check<'a> {
    /// Name of the document.
    pub document: &'a str,
    pub hints: Hints,
    pub queries: &'a CodebaseQueries,
    /// Values per band of a sketch.
    pub band_rows: usize,
}

impl From<Item> for SourceLine {
    fn from(item: Item) -> Self {
        Self { item, member: None, sketch: None }
    }
}

impl Check<'_> {
    /// Checks a line or row: the part of the stage that runs in parallel.
    fn line(&self, line: SourceLine) -> (LineLocation, CheckedLine) {
        let SourceLine { item, member, sketch } = line;
        let location = LineLocation { file: self.document.to_owned(), line: item.number, offset: item.offset, member };
        (location, self.content(item.content, sketch))
    }

    fn content(&self, content: Content, sketch: Option<RowSketch>) -> CheckedLine {
        let record = match content {
            Content::Row(record) => Ok(*record),
            Content::Rejected(reject, head) => Err((reject, head)),
            Content::Line(line) => match parse(&line, self.hints) {
                Err(Reject::EmptyCode) if self.queries.contains(&line) => return CheckedLine::JoinedQuery,
                result => result.map_err(|reject| (reject, line[..line.len().min(HEAD_BYTES)].to_vec())),
            },
        };
        match record {
            Ok(mut record) => {
                self.queries.complete(self.document, &mut record);
                CheckedLine::Row(Box::new(Row::new(record, sketch, self.band_rows)))
            }
            Err((reject, head)) => CheckedLine::Rejected(reject, head),
        }
    }
}

/// The next lines that are checked in parallel.
fn next_batch(lines: &mut dyn Iterator<Item = Result<SourceLine>>) -> Result<Vec<SourceLine>> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH_LINES && bytes < BATCH_BYTES {
        let Some(line) = lines.next().transpose()? else { break };
        bytes += match &line.item.content {
            Content::Line(line) => line.len(),
            Content::Row(row) => row.code.len() + row.docstring.len(),
            Content::Rejected(_, head) => head.len(),
        };
        batch.push(line);
    }
    Ok(batch)
}

/// Writes all lines to the tables, in their order. While one batch is written, the next one is read and checked.
pub fn write_lines(
    sink: &mut TableSink<'_>,
    lines: &mut dyn Iterator<Item = Result<SourceLine>>,
    check: &Check<'_>,
    bar: &Bar,
) -> Result<()> {
    let mut ready = Vec::new();
    loop {
        let mut written = Ok(());
        let next = rayon::in_place_scope(|scope| {
            scope.spawn(|_| written = sink.write(std::mem::take(&mut ready)));
            Ok::<Vec<_>, Error>(next_batch(lines)?.into_par_iter().map(|line| check.line(line)).collect())
        });
        written?;
        let next = next?;
        bar.add(next.len() as u64);
        if next.is_empty() {
            return Ok(());
        }
        ready = next;
    }
}

/// Writes the lines of a file that consists of members. Those of kept shards are not read: their rows are compared only.
pub fn write_members(
    sink: &mut TableSink<'_>,
    (path, max_line_bytes): (&Path, usize),
    members: &[Member],
    earlier: &mut EarlierRows<'_>,
    check: &Check<'_>,
    bar: &Bar,
) -> Result<()> {
    let (mut number, mut offset) = (0, 0);
    let groups: Vec<&[Member]> = members.chunk_by(|a, b| earlier.is_kept(a) == earlier.is_kept(b)).collect();
    for group in groups {
        if group.first().is_some_and(|member| earlier.is_kept(member)) {
            for member in group {
                let rows = earlier.kept_rows(member)?;
                for outcome in sink.compare_kept(member.shard.0, &rows)? {
                    earlier.record(member.shard, outcome);
                }
                number += rows.len() as u64;
                bar.add(rows.len() as u64);
            }
        } else {
            let end = |member: &Member| member.offset + member.bytes;
            let range = group.first().map_or(0, |first| first.offset)..group.last().map_or(0, end);
            let mut last = 0;
            read_part(path, range, max_line_bytes, &mut |items| {
                let mut located = Located { items, members: group.iter(), current: None, end: 0, sketches: None, earlier };
                let mut lines = located.by_ref().map(|line| {
                    let mut line = line?;
                    // Where these were rejects, they would depend on the shards that are kept.
                    let is_damaged = matches!(&line.item.content, Content::Rejected(reject, _) if reject.is_of_file());
                    ensure!(!is_damaged, "{} is damaged: run `codenets verify`, then `codenets run`", path.display());
                    last = line.item.number;
                    (line.item.number, line.item.offset) = (line.item.number + number, line.item.offset + offset);
                    Ok(line)
                });
                write_lines(sink, &mut lines, check, bar)
            })?;
            number += last;
        }
        offset += group.iter().map(|member| member.unpacked).sum::<u64>();
    }
    Ok(())
}

/// Finds the member of each line of a group of members, and its stored sketch.
struct Located<'a, 'e> {
    items: &'a mut dyn Iterator<Item = Item>,
    members: std::slice::Iter<'a, Member>,
    /// The member of the last line, and where it ends in the unpacked text.
    current: Option<&'a Member>,
    end: u64,
    sketches: Option<std::vec::IntoIter<RowSketch>>,
    earlier: &'a mut EarlierRows<'e>,
}

impl Iterator for Located<'_, '_> {
    type Item = Result<SourceLine>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.items.next()?;
        while item.offset >= self.end
            && let Some(member) = self.members.next()
        {
            (self.current, self.end) = (Some(member), self.end + member.unpacked);
            match self.earlier.sketches(member) {
                Ok(sketches) => self.sketches = sketches.map(Vec::into_iter),
                Err(error) => return Some(Err(error)),
            }
        }
        let member = self.current.map(|member| (member.digest, member.shard));
        let sketch = self.sketches.as_mut().and_then(Iterator::next);
        Some(Ok(SourceLine { item, member, sketch }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_code_is_joined_where_the_codebase_has_its_code_and_rejected_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let line = |code: &str, docstring: &str| {
            let value = serde_json::json!({ "repo": "o/r", "path": "a.py", "func_name": "f", "language": "python", "code": code, "docstring": docstring,
                "code_tokens": code.split_whitespace().collect::<Vec<_>>(), "docstring_tokens": docstring.split_whitespace().collect::<Vec<_>>(),
                "url": "https://example.org/f", "partition": "test" });
            value.to_string()
        };
        std::fs::write(dir.path().join("codebase.jsonl"), line("def f(): pass", "")).unwrap();
        std::fs::write(dir.path().join("test.jsonl"), line("", "Sort a list")).unwrap();
        let mut queries = CodebaseQueries::default();
        let check = |queries: &CodebaseQueries| {
            let check = Check { document: "test.jsonl", hints: Hints::of("test.jsonl"), queries, band_rows: 4 };
            check.content(Content::Line(line("", "Sort a list").into_bytes()), None)
        };
        assert!(matches!(check(&queries), CheckedLine::Rejected(Reject::EmptyCode, _)));
        queries.read_folder_of(dir.path(), std::path::Path::new("test.jsonl"), 1 << 20).unwrap();
        assert!(matches!(check(&queries), CheckedLine::JoinedQuery));
    }
}
