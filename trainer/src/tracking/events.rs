//! TensorBoard event files: protobuf `Event`s in TFRecord frames (`tensorflow/core/util/event.proto`,
//! `record_writer.h` of tensorflow).

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost::Message;

use crate::error::{Context, Result};

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "8")]
    tensor: Option<TensorProto>,
    #[prost(message, optional, tag = "9")]
    metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    texts: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "2")]
    dim: Vec<Extent>,
}

#[derive(Clone, PartialEq, Message)]
struct Extent {
    #[prost(int64, tag = "1")]
    size: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, optional, tag = "1")]
    plugin: Option<Plugin>,
}

#[derive(Clone, PartialEq, Message)]
struct Plugin {
    #[prost(string, tag = "1")]
    name: String,
}

/// `DT_STRING` of tensorflow's `types.proto`.
const STRING: i32 = 7;

/// One event file; every record is flushed, so that TensorBoard can show a running training.
#[derive(Debug)]
pub struct EventFile {
    file: BufWriter<File>,
}

impl EventFile {
    /// Creates a file in `folder`; files of an earlier, stopped run remain.
    pub fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let now = since_epoch();
        let path = folder.join(format!("events.out.tfevents.{}.{:09}.codenets", now.as_secs(), now.subsec_nanos()));
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        let mut events = Self { file: BufWriter::new(file) };
        events.write(0, Some("brain.Event:2".to_owned()), None)?;
        Ok(events)
    }

    /// Writes the values of a step by their tags.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let value =
            |&(tag, value): &(&str, f64)| Value { tag: tag.to_owned(), simple_value: Some(value as f32), tensor: None, metadata: None };
        self.write(step, None, Some(Summary { value: values.iter().map(value).collect() }))
    }

    /// Writes a text, which TensorBoard shows as Markdown.
    pub fn text(&mut self, step: u64, tag: &str, text: &str) -> Result<()> {
        let tensor = TensorProto { dtype: STRING, shape: Some(Shape { dim: vec![Extent { size: 1 }] }), texts: vec![text.into()] };
        let metadata = Metadata { plugin: Some(Plugin { name: "text".to_owned() }) };
        let value = Value { tag: tag.to_owned(), simple_value: None, tensor: Some(tensor), metadata: Some(metadata) };
        self.write(step, None, Some(Summary { value: vec![value] }))
    }

    fn write(&mut self, step: u64, file_version: Option<String>, summary: Option<Summary>) -> Result<()> {
        let wall_time = since_epoch().as_secs_f64();
        let bytes = Event { wall_time, step: step as i64, file_version, summary }.encode_to_vec();
        let length = (bytes.len() as u64).to_le_bytes();
        for part in [&length[..], &masked_crc(&length).to_le_bytes(), &bytes, &masked_crc(&bytes).to_le_bytes()] {
            self.file.write_all(part).context("writing TensorBoard events")?;
        }
        self.file.flush().context("writing TensorBoard events")
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The checksum of TFRecord: CRC-32C, rotated and shifted (`crc32c::Mask` of tensorflow).
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_the_masked_crc_32c() {
        // 0xe306_9283 is the check value of CRC-32/ISCSI.
        assert_eq!(super::masked_crc(b"123456789"), 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }
}
