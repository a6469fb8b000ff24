//! Pairs of a split, stored in an unnamed scratch file: they can be read in any order, and memory holds 13 bytes for each pair.

use std::{
    fs::File,
    io::{BufWriter, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use arrow::array::RecordBatch;
use ledger::{Invalid, Shard, bail, table};

use super::vocabulary::{Frame, Specials};
use crate::error::{Context, Result};

/// Ids of one pair, with the special tokens of query and code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    pub query: Vec<u32>,
    pub code: Vec<u32>,
    /// The name of the function as a query; empty if the name is too short.
    pub name: Vec<u32>,
    /// The code with the name masked; empty if the name is too short.
    pub code_unnamed: Vec<u32>,
}

/// The documented rows of a split.
#[derive(Debug)]
pub struct Samples {
    file: File,
    /// Byte where each sample begins, and the end of the last sample.
    starts: Vec<u64>,
    /// Index of the language of each sample in `languages`.
    pub language: Vec<u8>,
    /// Numbers of ids of query and code of each sample.
    pub lengths: Vec<(u16, u16)>,
    /// Names, ascending.
    pub languages: Vec<String>,
    /// Number of occurrences of each id in queries.
    pub query_counts: Vec<u32>,
}

impl Samples {
    /// Reads the rows that have a query into a scratch file in `scratch`. Rows without documentation are indexed, but not trained on.
    ///
    /// # Errors
    /// A file cannot be read or written, a language has no special token, or an id is not in the vocabulary.
    pub fn read(shards: &[&Shard], frame: &Frame, specials: &Specials, scratch: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(scratch).with_context(|| format!("creating a scratch file in {}", scratch.display()))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let mut samples = Self {
            file: out.get_ref().try_clone()?,
            starts: vec![0],
            language: Vec::new(),
            lengths: Vec::new(),
            languages: Vec::new(),
            query_counts: vec![0; specials.size],
        };
        for shard in shards {
            for batch in table::read(&shard.path, &["language", "query", "code", "name", "code_unnamed"])? {
                samples.add_rows(&batch?, frame, specials, &mut out)?;
            }
        }
        out.flush().context("writing the scratch file of samples")?;
        samples.sort_languages();
        Ok(samples)
    }

    fn add_rows(&mut self, batch: &RecordBatch, frame: &Frame, specials: &Specials, out: &mut impl Write) -> Result<()> {
        let languages = table::texts(batch, "language")?;
        let column = |name: &str| table::id_lists(batch, name);
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
            if let Some(id) = sample.parts().into_iter().flatten().find(|&&id| id as usize >= specials.size) {
                bail!(
                    "token id {id} is not in the vocabulary: the tokens belong to another vocabulary; run `codenets run --only tokenize`"
                );
            }
            query.row(row).iter().for_each(|&id| self.query_counts[id as usize] += 1);
            let start = self.starts.last().copied().unwrap_or_default();
            self.starts.push(start + sample.write(out)?);
            let length = |ids: &[u32]| u16::try_from(ids.len()).unwrap_or(u16::MAX);
            self.lengths.push((length(&sample.query), length(&sample.code)));
            let number = self.number_of(language)?;
            self.language.push(number);
        }
        Ok(())
    }

    fn number_of(&mut self, language: &str) -> Result<u8> {
        let place = self.languages.iter().position(|known| known == language).unwrap_or_else(|| {
            self.languages.push(language.to_owned());
            self.languages.len() - 1
        });
        u8::try_from(place).map_err(|_| Invalid("there are more than 256 languages".to_owned()).into())
    }

    /// Numbers languages by name, so that numbers do not depend on the order of rows.
    fn sort_languages(&mut self) {
        let mut sorted = self.languages.clone();
        sorted.sort_unstable();
        self.renumber(&sorted);
    }

    /// Numbers the languages as in `languages`; languages that are not in it follow.
    pub fn renumber(&mut self, languages: &[String]) {
        let mut all = languages.to_vec();
        all.extend(self.languages.iter().filter(|language| !languages.contains(language)).cloned());
        let number: Vec<u8> =
            self.languages.iter().map(|language| all.iter().position(|other| other == language).unwrap_or_default() as u8).collect();
        self.language.iter_mut().for_each(|language| *language = number[usize::from(*language)]);
        self.languages = all;
    }

    /// Are there no samples?
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Reads one sample.
    ///
    /// # Errors
    /// The scratch file cannot be read.
    pub fn read_one(&self, index: usize) -> Result<Sample> {
        let (start, end) = (self.starts[index], self.starts[index + 1]);
        let mut bytes = vec![0; (end - start) as usize];
        self.file.read_exact_at(&mut bytes, start).context("reading the scratch file of samples")?;
        Sample::of_bytes(&bytes).context("the scratch file of samples is damaged")
    }

    /// The `count` most frequent ids of queries; ids with equal counts are in ascending order.
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

    /// Writes four lengths, then the ids, as little-endian u32. Returns the number of bytes.
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
            let (ids, tail) = rest.split_at_checked(length as usize)?;
            rest = tail;
            Some(ids.to_vec())
        };
        Some(Self { query: take(lengths[0])?, code: take(lengths[1])?, name: take(lengths[2])?, code_unnamed: take(lengths[3])? })
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Samples with these languages and ids.
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
        fn samples_are_read_as_written(
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
    fn languages_are_numbered_as_in_the_other_split_and_new_ones_follow() {
        let mut samples = samples(&[(0, Sample::default()), (2, Sample::default()), (1, Sample::default())], 3);
        let names = |samples: &Samples| -> Vec<String> {
            samples.language.iter().map(|number| samples.languages[usize::from(*number)].clone()).collect()
        };
        let before = names(&samples);
        samples.renumber(&["java".to_owned(), "ruby".to_owned(), "go".to_owned()]);
        assert_eq!(samples.languages, ["java", "ruby", "go", "python"]);
        assert_eq!((names(&samples), &samples.language), (before, &vec![2, 1, 3]));
        assert_eq!((samples.number_of("go").unwrap(), samples.number_of("php").unwrap()), (2, 4));
        assert!((5..256).all(|number| samples.number_of(&number.to_string()).is_ok()));
        assert!(samples.number_of("one more").unwrap_err().to_string().contains("256 languages"));
    }

    #[test]
    fn common_tokens_are_counted_in_queries() {
        let query = |ids: &[u32]| (0, Sample { query: ids.to_vec(), code: vec![9; 20], ..Sample::default() });
        let samples = samples(&[query(&[5, 6]), query(&[6, 7]), query(&[6, 5])], 10);
        assert_eq!(samples.common_query_ids(2), [6, 5]);
    }
}
