//! Counts and limits what arrives from servers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};
use object_store::{ClientOptions, HeaderValue};

/// The largest body that is not part of an object: a list, or the text of an error.
const OTHER_BODY: u64 = 4 << 20;

/// The largest body that is part of an object. Requests are smaller.
const OBJECT_BODY: u64 = 64 << 20;

/// What a client has requested and received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests, with repeated ones.
    pub requests: u64,
    /// Bytes of the bodies of answers.
    pub received: u64,
}

/// The counters of a client.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    received: AtomicU64,
}

impl Counters {
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            requests: self.requests.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }
}

/// Connects clients whose traffic is counted.
#[derive(Debug)]
pub(crate) struct Connector(pub(crate) Arc<Counters>);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service {
            client: ReqwestConnector::default().connect(options)?,
            counters: Arc::clone(&self.0),
        }))
    }
}

#[derive(Debug)]
struct Service {
    client: HttpClient,
    counters: Arc<Counters>,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let (mut parts, body) = self.client.execute(request).await?.into_parts();
        if let Some(range) = parts.headers.get("content-range") {
            let Some(len) = length(range.as_bytes()) else {
                return Err(wrong("invalid Content-Range"));
            };
            // An answer in chunks has none. object_store requires it, and the number of bytes is compared later.
            if !parts.headers.contains_key("content-length") {
                parts
                    .headers
                    .insert("content-length", HeaderValue::from(len));
            }
        }
        let left = match parts.status.as_u16() {
            206 => OBJECT_BODY,
            _ => OTHER_BODY,
        };
        let body = Counted {
            body,
            left,
            counters: Arc::clone(&self.counters),
        };
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

/// The length of the range in a `Content-Range`, if its numbers have at most 18 digits: object_store adds 1 to one of
/// them. 0 for a form that object_store refuses.
fn length(range: &[u8]) -> Option<u64> {
    let numbers = range.split(|byte| !byte.is_ascii_digit());
    let numbers = numbers.filter(|digits| !digits.is_empty());
    let number = |digits: &[u8]| match digits.len() {
        0..=18 => std::str::from_utf8(digits).ok()?.parse::<u64>().ok(),
        _ => None,
    };
    let numbers = numbers.map(number).collect::<Option<Vec<_>>>()?;
    Some(match numbers[..] {
        [start, last, _] => (last + 1).saturating_sub(start),
        _ => 0,
    })
}

fn wrong(what: &str) -> HttpError {
    // It is not repeated: the server would send the same again.
    HttpError::new(
        HttpErrorKind::Decode,
        std::io::Error::other(what.to_owned()),
    )
}

/// A body that is counted, and ends with an error at its limit.
struct Counted {
    body: HttpResponseBody,
    left: u64,
    counters: Arc<Counters>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let len = data.len() as u64;
            self.counters.received.fetch_add(len, Ordering::Relaxed);
            match self.left.checked_sub(len) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(wrong("the answer is too long")))),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // The server determines the length, and object_store allocates that much.
        let mut hint = SizeHint::new();
        hint.set_lower(self.body.size_hint().lower().min(1 << 20));
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_overflow_are_refused() {
        assert_eq!(length(b"bytes 0-9/20"), Some(10));
        assert_eq!(length(b"bytes */20"), Some(0));
        assert!(length(b"bytes 0-999999999999999999/999999999999999999").is_some());
        assert_eq!(length(b"bytes 0-18446744073709551615/1"), None);
    }
}
