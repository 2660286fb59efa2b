//! Opens, lists and creates objects.

use std::time::SystemTime;

use futures_util::StreamExt;

use crate::client::Client;
use crate::object::Object;
use crate::upload::Upload;
use crate::{Error, Location};

/// The largest number of objects of a list.
const LIST: usize = 1_000_000;

/// An object of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its URL.
    pub url: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written.
    pub modified: SystemTime,
}

impl Client {
    /// Opens an object. Sends one request, for its first bytes.
    ///
    /// # Errors
    ///
    /// [`Error`], if the URL is invalid, or the server does not serve the object by ranges.
    pub fn open(&self, location: &Location) -> Result<Object, Error> {
        if location.is_prefix() {
            return Err(Error::Url("found a prefix, expected an object".into()));
        }
        Object::open(self.clone(), self.place(location)?)
    }

    /// Lists the objects below a prefix, in the order of their keys.
    ///
    /// # Errors
    ///
    /// [`Error::Url`] if it is not a prefix of an S3 bucket, [`Error::Failed`] if it has more than 1,000,000 objects.
    pub fn list(&self, location: &Location) -> Result<Vec<Listed>, Error> {
        let Location::S3 { bucket, key } = location else {
            return Err(Error::Url("only s3:// has lists of objects".into()));
        };
        let (store, prefix) = self.place(location)?;
        let url = format!("s3://{bucket}/");
        let key = key.clone();
        let list = async move {
            let prefix = (!key.is_empty()).then_some(&prefix);
            let mut list = store.list(prefix);
            let mut found = Vec::new();
            while let Some(next) = list.next().await {
                let meta = next.map_err(|e| Error::of("list objects", &e))?;
                if found.len() == LIST {
                    return Err(Error::Failed {
                        doing: "list objects".into(),
                        why: format!("more than {LIST} objects"),
                    });
                }
                found.push(Listed {
                    url: format!("{url}{}", meta.location),
                    size: meta.size,
                    modified: meta.last_modified.into(),
                });
            }
            found.sort_by(|a, b| a.url.cmp(&b.url));
            Ok(found)
        };
        self.wait(list)?
    }

    /// Creates an object, which exists when the upload is complete. `len` is its size, if it is known: a guide for
    /// the size of the parts.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] if the object exists and `force` is not set, [`Error::Url`] if it cannot be written.
    pub fn create(
        &self,
        location: &Location,
        len: Option<u64>,
        force: bool,
    ) -> Result<Upload, Error> {
        match location {
            Location::S3 { .. } if location.is_prefix() => {
                Err(Error::Url("found a prefix, expected an object".into()))
            }
            Location::S3 { .. } => Upload::new(self.clone(), self.place(location)?, len, force),
            Location::Http { .. } => Err(Error::Url("only s3:// can be written".into())),
        }
    }
}
