//! CodeSearchNet records in any of their layouts: lines of JSON (packed or not), zip archives of them, the Hub's Parquet.
//!
//! ```text
//! file -> documents::read -> Item (line or row) -> parse -> Record, or Reject with the reason
//! ```

mod documents;
mod expansion;
mod fields;
mod hints;
mod item;
mod lines;
mod numbers;
mod parquet_rows;
mod record;
mod reject;
mod text_list;

use std::path::Path;

use crate::{error::Result, files::data_files};

pub use documents::{read as read_documents, read_part};
pub use expansion::{FREE_BYTES, MAX_RATIO};
pub use fields::Fields;
pub use hints::Hints;
pub use item::{Content, HEAD_BYTES, Item};
pub use record::{Record, parse};
pub use reject::{Reasons, Reject};
pub use text_list::TextList;

/// Longest line of a folder that is read without a configuration, in bytes.
const MAX_LINE_BYTES: usize = 64 << 20;

/// Calls `take` with every record below a folder, in any layout; with `None` for a line that is not a record.
pub fn each_record(folder: &Path, take: &mut dyn FnMut(Option<Record>) -> Result<()>) -> Result<()> {
    ledger::ensure!(folder.is_dir(), "{} is not a folder", folder.display());
    for path in data_files(folder)?.0 {
        read_documents(&folder.join(&path), &path, MAX_LINE_BYTES, &mut |name, items| {
            let hints = Hints::of(name);
            for item in items {
                take(match item.content {
                    Content::Row(record) => Some(*record),
                    Content::Line(line) => parse(&line, hints).ok(),
                    Content::Rejected(Reject::UnknownFileType, _) => continue,
                    Content::Rejected(..) => None,
                })?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
