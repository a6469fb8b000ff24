//! Buckets of clouds: Amazon S3, Google Cloud Storage, Azure Blob Storage. Built with the cargo feature `cloud`.

use std::{sync::Arc, time::Duration};

use crate::error::Result;
use object_store::{
    BackoffConfig, ObjectStore, RetryConfig, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder,
};

/// Time limit of one request: a chunk must pass within it on a slow line.
const REQUEST_TIMEOUT: &str = "300 seconds";

/// The store of a bucket. None where the scheme of the address is not that of a cloud.
pub(super) fn connect(scheme: &str, address: &str) -> Result<Option<Arc<dyn ObjectStore>>> {
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 },
        max_retries: 6,
        retry_timeout: Duration::from_secs(120),
    };
    // The builders share no trait. `$prefix`: how the names of their environment variables begin.
    macro_rules! build {
        ($builder:ty, $prefix:literal) => {{
            let mut builder = <$builder>::new().with_url(address).with_retry(retry);
            let own = [("timeout".to_owned(), REQUEST_TIMEOUT.to_owned())];
            for (name, value) in own.into_iter().chain(std::env::vars().filter(|(name, _)| name.starts_with($prefix))) {
                if let Ok(key) = name.to_ascii_lowercase().parse() {
                    builder = builder.with_config(key, value);
                }
            }
            Arc::new(builder.build()?) as Arc<dyn ObjectStore>
        }};
    }
    Ok(Some(match scheme {
        "s3" | "s3a" => build!(AmazonS3Builder, "AWS_"),
        "gs" => build!(GoogleCloudStorageBuilder, "GOOGLE_"),
        "az" | "azure" | "abfs" | "abfss" => build!(MicrosoftAzureBuilder, "AZURE_"),
        _ => return Ok(None),
    }))
}
