//! The URLs of objects.

use std::net::IpAddr;

use crate::Error;

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// `s3://BUCKET/KEY`. The key is used as it is written, without percent-decoding.
    S3 {
        /// The bucket.
        bucket: String,
        /// The key; empty, or with a slash at its end, for a prefix.
        key: String,
    },
    /// `https://HOST/PATH`, or `http://HOST/PATH` of the loopback interface.
    Http {
        /// The complete URL.
        url: String,
    },
}

/// The schemes of [`Location::parse`].
const SCHEMES: [&str; 3] = ["s3://", "https://", "http://"];

/// Whether `name` begins with a scheme of [`Location::parse`].
pub fn is_url(name: &str) -> bool {
    SCHEMES.iter().any(|scheme| name.starts_with(scheme))
}

impl Location {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// [`Error::Url`] if the scheme is another one, the bucket or the host is missing, or the URL is not encrypted
    /// and its host is not on the loopback interface.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let invalid = |what: &str| Err(Error::Url(what.to_owned()));
        if let Some(rest) = url.strip_prefix("s3://") {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            if bucket.is_empty() || !bucket.chars().all(is_name) {
                return invalid("found no bucket name, expected s3://BUCKET/KEY");
            }
            let (bucket, key) = (bucket.to_owned(), key.to_owned());
            return Ok(Self::S3 { bucket, key });
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return invalid("not a URL");
        };
        let host = host(rest);
        if host.is_empty() {
            return invalid("found no host, expected https://HOST/PATH");
        }
        match scheme {
            "https" => {}
            "http" if is_loopback(host) => {}
            "http" => {
                return invalid("http:// is not encrypted, and only for the loopback interface");
            }
            _ => return invalid("unknown scheme, expected s3:// or https://"),
        }
        Ok(Self::Http { url: url.into() })
    }

    /// Whether it is a prefix, whose objects can be listed: a bucket, or a key with a slash at its end.
    pub fn is_prefix(&self) -> bool {
        matches!(self, Self::S3 { key, .. } if key.is_empty() || key.ends_with('/'))
    }
}

/// The host of a URL whose scheme was removed, without user, port and brackets.
fn host(rest: &str) -> &str {
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map_or("", |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

/// Whether `url` is of a host on the loopback interface.
#[cfg(feature = "client")]
pub(crate) fn is_loopback_url(url: &str) -> bool {
    url.split_once("://")
        .is_some_and(|(_, rest)| is_loopback(host(rest)))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_used_as_they_are_written() {
        let parsed = Location::parse("s3://crash.example/web 1/vmcore.0%20.zst").unwrap();
        let (bucket, key) = ("crash.example".into(), "web 1/vmcore.0%20.zst".into());
        assert_eq!(parsed, Location::S3 { bucket, key });
        for prefix in ["s3://crash", "s3://crash/", "s3://crash/web/"] {
            assert!(Location::parse(prefix).unwrap().is_prefix(), "{prefix}");
        }
        assert!(!Location::parse("s3://crash/web").unwrap().is_prefix());
    }

    #[test]
    fn unencrypted_urls_are_only_for_the_loopback_interface() {
        for url in [
            "http://127.0.0.1:9000/x",
            "http://[::1]/x",
            "http://localhost/x",
            "https://example.org/x?y=1",
        ] {
            assert_eq!(Location::parse(url), Ok(Location::Http { url: url.into() }));
        }
        for url in [
            "http://example.org/x",
            "http://localhost@example.org/x",
            "http://example.org\\@localhost/x",
            "http://127.0.0.1.example.org/x",
            "http://10.0.0.1/x",
            "https:///x",
            "s3:///x",
            "s3://a b/x",
            "ftp://localhost/x",
            "vmcore.0",
        ] {
            assert!(matches!(Location::parse(url), Err(Error::Url(_))), "{url}");
        }
    }

    #[test]
    fn paths_are_not_urls() {
        for path in ["vmcore.0", "-", "s3:/x", "/s3://x", "http:x"] {
            assert!(!is_url(path), "{path}");
        }
        assert!(is_url("s3://x") && is_url("https://x/y"));
    }
}
