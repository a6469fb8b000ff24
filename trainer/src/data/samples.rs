//! Pairs of a split, in an unnamed scratch file: any order can be read, and memory holds 13 bytes a pair.

use std::{
    fs::File,
    io::{BufWriter, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use ledger::{Shard, table};

use crate::vocabulary::{Frame, Specials};

/// The ids of one pair, framed by the special tokens of query and code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    pub query: Vec<u32>,
    pub code: Vec<u32>,
    /// The function's name as a query, and the code with the name masked; empty where the name is too short.
    pub name: Vec<u32>,
    pub code_unnamed: Vec<u32>,
}

/// The documented rows of a split.
#[derive(Debug)]
pub struct Samples {
    file: File,
    /// Where each sample begins, and the end of the last.
    starts: Vec<u64>,
    /// Number of each sample's language in `languages`.
    pub language: Vec<u8>,
    /// Ids of each sample's query and code.
    pub lengths: Vec<(u16, u16)>,
    /// Names, ascending.
    pub languages: Vec<String>,
    /// How often each id is in a query.
    pub query_counts: Vec<u32>,
}

impl Samples {
    /// Reads the rows that have a query (rows without documentation are indexed, not learnt from), batch by batch, into
    /// a scratch file in `scratch`.
    pub fn read(shards: &[&Shard], frame: &Frame, specials: &Specials, scratch: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(scratch).with_context(|| format!("making a scratch file in {}", scratch.display()))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let mut samples = Self {
            file: out.get_ref().try_clone()?,
            starts: vec![0],
            language: Vec::new(),
            lengths: Vec::new(),
            languages: Vec::new(),
            query_counts: vec![0; specials.size],
        };
        let mut at = 0;
        for shard in shards {
            for batch in table::read(&shard.path, &["language", "query", "code", "name", "code_unnamed"])? {
                let batch = batch?;
                let languages = table::texts(&batch, "language")?;
                let column = |name: &str| table::id_lists(&batch, name);
                let (query, code, name, unnamed) = (column("query")?, column("code")?, column("name")?, column("code_unnamed")?);
                for row in 0..batch.num_rows() {
                    if query.row(row).is_empty() {
                        continue;
                    }
                    let language = languages.value(row);
                    let (before, after) = frame.code_ids(specials, language)?;
                    let (query_before, query_after) = frame.query_ids(specials)?;
                    let framed = |before: &[u32], ids: &[u32], after: &[u32]| [before, ids, after].concat();
                    let named = !name.row(row).is_empty();
                    let sample = Sample {
                        query: framed(&query_before, query.row(row), &query_after),
                        code: framed(&before, code.row(row), &after),
                        name: if named { framed(&query_before, name.row(row), &query_after) } else { Vec::new() },
                        code_unnamed: if named { framed(&before, unnamed.row(row), &after) } else { Vec::new() },
                    };
                    for ids in sample.parts() {
                        let strange = ids.iter().find(|&&id| id as usize >= specials.size);
                        ensure!(
                            strange.is_none(),
                            "token id {} is not in the vocabulary: run `make tokenize` again",
                            strange.copied().unwrap_or_default()
                        );
                    }
                    query.row(row).iter().for_each(|&id| samples.query_counts[id as usize] += 1);
                    at += sample.write(&mut out)?;
                    samples.starts.push(at);
                    let length = |ids: &[u32]| u16::try_from(ids.len()).unwrap_or(u16::MAX);
                    samples.lengths.push((length(&sample.query), length(&sample.code)));
                    let number = samples.number_of(language)?;
                    samples.language.push(number);
                }
            }
        }
        out.flush().context("writing the scratch file of samples")?;
        samples.sort_languages();
        Ok(samples)
    }

    fn number_of(&mut self, language: &str) -> Result<u8> {
        let place = self.languages.iter().position(|known| known == language).unwrap_or_else(|| {
            self.languages.push(language.to_owned());
            self.languages.len() - 1
        });
        u8::try_from(place).context("more than 256 languages")
    }

    /// Languages are numbered by name, not by who came first.
    fn sort_languages(&mut self) {
        let mut sorted = self.languages.clone();
        sorted.sort_unstable();
        self.renumber(&sorted);
    }

    /// Numbers the languages as `languages` does; those it does not have come behind.
    pub fn renumber(&mut self, languages: &[String]) {
        let mut all = languages.to_vec();
        all.extend(self.languages.iter().filter(|language| !languages.contains(language)).cloned());
        let number: Vec<u8> =
            self.languages.iter().map(|language| all.iter().position(|other| other == language).unwrap_or_default() as u8).collect();
        self.language.iter_mut().for_each(|language| *language = number[usize::from(*language)]);
        self.languages = all;
    }

    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    pub fn read_one(&self, index: usize) -> Result<Sample> {
        let (start, end) = (self.starts[index], self.starts[index + 1]);
        let mut bytes = vec![0; (end - start) as usize];
        self.file.read_exact_at(&mut bytes, start).context("reading the scratch file of samples")?;
        Sample::of_bytes(&bytes).context("the scratch file of samples is damaged")
    }

    /// The most frequent ids of queries, at most this many; equal counts by id.
    pub fn common_query_ids(&self, count: usize) -> Vec<u32> {
        let mut ids: Vec<u32> = (0..self.query_counts.len() as u32).filter(|&id| self.query_counts[id as usize] > 0).collect();
        ids.sort_by_key(|&id| (std::cmp::Reverse(self.query_counts[id as usize]), id));
        ids.truncate(count);
        ids
    }
}

impl Sample {
    fn parts(&self) -> [&Vec<u32>; 4] {
        [&self.query, &self.code, &self.name, &self.code_unnamed]
    }

    /// Four lengths, then the ids; little-endian u32. Returns the bytes written.
    fn write(&self, out: &mut impl Write) -> Result<u64> {
        let lengths = self.parts().map(|ids| ids.len() as u32);
        let bytes: Vec<u8> = lengths.iter().chain(self.parts().into_iter().flatten()).flat_map(|number| number.to_le_bytes()).collect();
        out.write_all(&bytes).context("writing the scratch file of samples")?;
        Ok(bytes.len() as u64)
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let numbers: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
        let (lengths, mut rest) = numbers.split_at_checked(4)?;
        let mut take = |length: u32| {
            let (ids, behind) = rest.split_at_checked(length as usize)?;
            rest = behind;
            Some(ids.to_vec())
        };
        Some(Self { query: take(lengths[0])?, code: take(lengths[1])?, name: take(lengths[2])?, code_unnamed: take(lengths[3])? })
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Samples made here: `language`, query and code of each.
    pub fn samples(rows: &[(u8, Sample)], vocabulary: usize) -> Samples {
        let mut file = tempfile::tempfile().unwrap();
        let mut samples = Samples {
            file: file.try_clone().unwrap(),
            starts: vec![0],
            language: rows.iter().map(|(language, _)| *language).collect(),
            lengths: rows.iter().map(|(_, sample)| (sample.query.len() as u16, sample.code.len() as u16)).collect(),
            languages: ["go", "python", "ruby"].map(String::from).to_vec(),
            query_counts: vec![0; vocabulary],
        };
        let mut at = 0;
        for (_, sample) in rows {
            at += sample.write(&mut file).unwrap();
            samples.starts.push(at);
            sample.query.iter().for_each(|&id| samples.query_counts[id as usize] += 1);
        }
        samples
    }

    proptest::proptest! {
        #[test]
        fn samples_survive_the_file(
            query in proptest::collection::vec(0u32..1000, 0..40),
            code in proptest::collection::vec(0u32..1000, 0..300),
            name in proptest::collection::vec(0u32..1000, 0..5),
        ) {
            let sample = Sample { query, code_unnamed: code.iter().rev().copied().collect(), code, name };
            let other = Sample { query: vec![1], ..Sample::default() };
            let samples = samples(&[(0, other.clone()), (1, sample.clone()), (0, other.clone())], 1000);
            proptest::prop_assert_eq!(samples.read_one(1).unwrap(), sample);
            proptest::prop_assert_eq!(samples.read_one(2).unwrap(), other);
        }
    }

    #[test]
    fn common_tokens_are_those_of_queries() {
        let query = |ids: &[u32]| (0, Sample { query: ids.to_vec(), code: vec![9; 20], ..Sample::default() });
        let samples = samples(&[query(&[5, 6]), query(&[6, 7]), query(&[6, 5])], 10);
        assert_eq!(samples.common_query_ids(2), [6, 5]);
    }
}
