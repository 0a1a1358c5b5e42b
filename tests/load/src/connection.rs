//! One HTTP/1.1 connection that is kept alive, and made anew after a failure.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// An answer is small, but for that of a query.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// A server that does not answer by then counts as failed, so that a run ends.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Where requests go, with the headers that all of them carry.
pub struct Target {
    pub(crate) authority: String,
    pub(crate) headers: HeaderMap,
}

/// What came back.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub body: Bytes,
}

impl Target {
    /// A target at `endpoint` (`http://host:port`), with headers as `name=value`.
    ///
    /// # Errors
    /// One of them is not of that form.
    pub fn new(endpoint: &str, headers: &[String]) -> Result<Arc<Target>> {
        let uri: Uri = endpoint.parse().with_context(|| format!("expected `http://host:port`, found `{endpoint}`"))?;
        if uri.scheme_str() != Some("http") || uri.path() != "/" {
            bail!("expected `http://host:port`, found `{endpoint}`");
        }
        let host = uri.host().with_context(|| format!("expected a host, found `{endpoint}`"))?;
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        let mut fields = HeaderMap::new();
        fields.insert(header::HOST, HeaderValue::try_from(&authority)?);
        for field in headers {
            let (name, value) =
                field.split_once('=').with_context(|| format!("expected `name=value`, found `{field}`"))?;
            fields.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        Ok(Arc::new(Target { authority, headers: fields }))
    }
}

/// A connection to a target.
pub struct Connection {
    target: Arc<Target>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// Connects with the first request.
    pub fn new(target: &Arc<Target>) -> Connection {
        Connection { target: Arc::clone(target), sender: None }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// There is no connection, it broke, or no answer came in time. The next request connects anew.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: Bytes,
    ) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(path).body(Full::new(body))?;
        *request.headers_mut() = self.target.headers.clone();
        for (name, value) in headers {
            request.headers_mut().insert(name, HeaderValue::from_str(value)?);
        }
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.connect().await?,
        };
        let exchange = async {
            sender.ready().await?;
            let answer = sender.send_request(request).await?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await
                .map_err(anyhow::Error::from_boxed)?;
            anyhow::Ok(Answer { status, body: body.to_bytes() })
        };
        let waited = tokio::time::timeout(ANSWER_TIMEOUT, exchange).await;
        let answer = waited.with_context(|| format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))??;
        self.sender = Some(sender);
        Ok(answer)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.target.authority).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // What breaks the connection also fails the request on it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}
