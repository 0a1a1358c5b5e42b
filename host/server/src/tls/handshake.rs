//! From a connection to a secured one, within bounds of time and number.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::live::Tls;

/// The first byte of TLS: a record of a handshake.
const HANDSHAKE: u8 = 0x16;
/// The answer to who speaks HTTP here without TLS.
const NO_TLS: &str = "this port of prism speaks TLS: use https://\n";
/// What such a client had sent is read on for this long and up to this size, so that it reads the answer and no reset.
const NO_TLS_TIME: Duration = Duration::from_secs(1);
const NO_TLS_BYTES: u64 = 64 << 10;

impl Tls {
    /// Secures a connection; `None` where that did not come about, which is counted.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let secured = self.handshake(stream).await;
        if secured.is_none() {
            self.handshakes_failed.fetch_add(1, Relaxed);
        }
        secured
    }

    async fn handshake(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let deadline = Instant::now() + self.handshake_timeout();
        let mut first = [0];
        // Before a place is taken: who says nothing keeps nobody waiting.
        match timeout_at(deadline, stream.peek(&mut first)).await.ok()?.ok()? {
            0 => return None,
            _ if first[0] != HANDSHAKE => {
                let _best_effort = timeout(NO_TLS_TIME, tell_no_tls(stream)).await;
                return None;
            }
            _ => {}
        }
        let _place = timeout_at(deadline, self.handshakes.acquire()).await.ok()?.ok()?;
        let accepting = TlsAcceptor::from(self.config()).accept(stream);
        match timeout_at(deadline, accepting).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
            Err(_) => None,
        }
    }
}

async fn tell_no_tls(mut stream: TcpStream) -> std::io::Result<()> {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{NO_TLS}",
        NO_TLS.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(NO_TLS_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}
