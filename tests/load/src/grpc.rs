//! One gRPC channel over HTTP/2 that is kept, and made anew after a failure: unary calls as bytes, so that a request that
//! was encoded once is never encoded again.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::connection::{ANSWER_TIMEOUT, Answer, Target};

/// The flag and the length before a message.
const PREFIX_BYTES: usize = 5;

/// A channel to a target.
pub struct Channel {
    target: Arc<Target>,
    sender: Option<SendRequest<Message>>,
}

impl Channel {
    /// Connects with the first call.
    pub fn new(target: &Arc<Target>) -> Channel {
        Channel { target: Arc::clone(target), sender: None }
    }

    /// Sends a message and reads the whole answer; its status is 200 for OK, else the gRPC code, with the status message as body.
    ///
    /// # Errors
    /// There is no connection, it broke, or no answer came in time. The next call connects anew.
    pub async fn call(&mut self, method: &str, encoding: Option<&str>, message: Bytes) -> Result<Answer> {
        let uri = format!("http://{}{method}", self.target.authority);
        let body = Message::new(encoding.is_some(), message);
        let mut request = Request::builder().method(Method::POST).uri(uri).body(body)?;
        *request.headers_mut() = self.target.headers.clone();
        let headers = request.headers_mut();
        headers.remove(header::HOST);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        if let Some(encoding) = encoding {
            headers.insert(HeaderName::from_static("grpc-encoding"), HeaderValue::from_str(encoding)?);
        }
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.connect().await?,
        };
        let exchange = async {
            sender.ready().await?;
            let answer = sender.send_request(request).await?;
            let (head, body) = answer.into_parts();
            let collected = body.collect().await?;
            let trailers = collected.trailers().cloned().unwrap_or_default();
            let data = collected.to_bytes();
            let of = |name: &str| text(&trailers, name).or_else(|| text(&head.headers, name));
            let code: u16 = of("grpc-status").context("an answer without grpc-status")?.parse()?;
            anyhow::Ok(match code {
                0 => Answer { status: 200, body: data.slice(PREFIX_BYTES.min(data.len())..) },
                code => Answer { status: code, body: of("grpc-message").unwrap_or_default().into() },
            })
        };
        let waited = tokio::time::timeout(ANSWER_TIMEOUT, exchange).await;
        let answer = waited.with_context(|| format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))??;
        self.sender = Some(sender);
        Ok(answer)
    }

    async fn connect(&self) -> Result<SendRequest<Message>> {
        let stream = TcpStream::connect(&self.target.authority).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        // As gRPC clients do: large enough that a request of some MB is not held up by window updates.
        builder.initial_stream_window_size(4 << 20).initial_connection_window_size(8 << 20);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        // What breaks the connection also fails the call on it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// A unary call's body: the prefix and the message, which is not copied.
struct Message {
    prefix: Option<Bytes>,
    message: Option<Bytes>,
}

impl Message {
    fn new(compressed: bool, message: Bytes) -> Message {
        let mut prefix = BytesMut::with_capacity(PREFIX_BYTES);
        prefix.put_u8(compressed.into());
        prefix.put_u32(message.len() as u32);
        Message { prefix: Some(prefix.freeze()), message: Some(message) }
    }
}

impl Body for Message {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        let next = self.prefix.take().or_else(|| self.message.take());
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.prefix.is_none() && self.message.is_none()
    }
}
