//! Reads request bodies within bounds: bytes of one, bytes of all at once, time between pieces, time for the whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use prism_model::TenantId;
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::{Code, Failure};

/// A refused body is read on and thrown away up to this many bytes, so that the client reads the answer instead of a reset
/// connection, which it would take for a reason to send the same again.
const DISCARD_BYTES_MAX: usize = 96 << 20;
/// And for this long: discarding is a courtesy.
const DISCARD_TIME: Duration = Duration::from_secs(10);

/// What one body may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    /// Bytes.
    pub(crate) bytes_max: usize,
    /// Name of the setting that bounds them.
    pub(crate) setting: &'static str,
    /// Between two pieces.
    pub(crate) idle: Duration,
    /// For the whole.
    pub(crate) total: Duration,
}

impl BodyLimits {
    /// What is told of a body beyond them.
    pub(crate) fn too_large(&self) -> Failure {
        let message = format!("expected a body of at most {} bytes (`{}`), found more", self.bytes_max, self.setting);
        Failure::new(Code::TooLarge, message)
    }
}

/// Bytes of bodies in memory, over all connections. A tenant takes half at most, so that one cannot keep others out.
#[derive(Debug)]
pub(crate) struct InFlight {
    max: usize,
    tenant_max: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    total: usize,
    tenants: HashMap<TenantId, usize>,
}

impl InFlight {
    /// Room for `max` bytes, and for one body of `body_max` of a tenant in any case.
    pub(crate) fn new(max: usize, body_max: usize) -> Arc<InFlight> {
        Arc::new(InFlight { max, tenant_max: (max / 2).max(body_max), used: Mutex::default() })
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> usize {
        self.used.lock().total
    }
}

/// Room that a body has taken; given back when dropped.
#[derive(Debug)]
struct Taken {
    room: Arc<InFlight>,
    tenant: TenantId,
    bytes: usize,
}

impl Taken {
    fn more(&mut self, bytes: usize) -> bool {
        let mut used = self.room.used.lock();
        let tenant = used.tenants.get(&self.tenant).copied().unwrap_or(0);
        if used.total + bytes > self.room.max || tenant + bytes > self.room.tenant_max {
            return false;
        }
        used.total += bytes;
        used.tenants.insert(self.tenant.clone(), tenant + bytes);
        self.bytes += bytes;
        true
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut used = self.room.used.lock();
        used.total -= self.bytes;
        let left = used.tenants.get(&self.tenant).map_or(0, |n| n - self.bytes);
        if left == 0 {
            used.tenants.remove(&self.tenant);
        } else {
            used.tenants.insert(self.tenant.clone(), left);
        }
    }
}

/// A whole body, and the room that it takes while it is held.
#[derive(Debug)]
pub(crate) struct Held {
    /// The bytes.
    pub(crate) bytes: Bytes,
    _taken: Taken,
}

/// Reads a body.
///
/// # Errors
/// [`Code::TooLarge`], [`Code::TooSlow`], [`Code::Busy`] where all bodies together take too much, [`Code::BadRequest`] where
/// the client went away.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: BodyLimits,
    tenant: &TenantId,
    room: &Arc<InFlight>,
) -> Result<Held, Failure> {
    use hyper::body::Body as _;
    let mut body = body;
    if body.size_hint().lower() > limits.bytes_max as u64 {
        discard(headers, body).await;
        return Err(limits.too_large());
    }
    let refused = match collect(&mut body, limits, tenant, room).await {
        Ok(held) => return Ok(held),
        Err(refused) => refused,
    };
    if matches!(refused.code, Code::TooLarge | Code::Busy) {
        drain(body).await;
    }
    Err(refused)
}

/// Reads a body that nobody wants, within bounds, unless the client asked first whether to send it: it is answered instead.
pub(crate) async fn discard(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(header::EXPECT) {
        drain(body).await;
    }
}

async fn drain(mut body: Body) {
    let mut left = DISCARD_BYTES_MAX;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = rest;
        }
    };
    let _courtesy_over = timeout(DISCARD_TIME, reading).await;
}

async fn collect(
    body: &mut Body,
    limits: BodyLimits,
    tenant: &TenantId,
    room: &Arc<InFlight>,
) -> Result<Held, Failure> {
    use hyper::body::Body as _;
    let announced = body.size_hint().lower();
    let deadline = Instant::now() + limits.total;
    let mut taken = Taken { room: room.clone(), tenant: tenant.clone(), bytes: 0 };
    // The announced size is believed up to 1 MiB: who announces more than comes holds no memory.
    let mut bytes = Vec::with_capacity(usize::try_from(announced).unwrap_or(0).min(1 << 20));
    loop {
        let until = deadline.min(Instant::now() + limits.idle);
        let Ok(frame) = timeout_at(until, body.frame()).await else {
            let message =
                "expected the body of the request in time (`http.body_timeout_ms`, `http.body_idle_timeout_ms`)";
            return Err(Failure::new(Code::TooSlow, message));
        };
        let data = match frame {
            None => return Ok(Held { bytes: bytes.into(), _taken: taken }),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => {
                return Err(
                    Failure::new(Code::BadRequest, "the body of the request broke off").inner(error.to_string())
                );
            }
        };
        if bytes.len() + data.len() > limits.bytes_max {
            return Err(limits.too_large());
        }
        if !taken.more(data.len()) {
            let message =
                "too many requests are under way (`http.body_bytes_in_flight_max`): send the same again later";
            return Err(Failure::new(Code::Busy, message));
        }
        bytes.extend_from_slice(&data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt as _, stream};

    fn limits(bytes_max: usize) -> BodyLimits {
        let (idle, total) = (Duration::from_secs(5), Duration::from_secs(12));
        BodyLimits { bytes_max, setting: "limits.body_bytes_max", idle, total }
    }

    fn none() -> HeaderMap {
        HeaderMap::new()
    }

    fn tenant() -> TenantId {
        "shop".parse().unwrap()
    }

    fn pieces(count: usize, len: usize) -> Body {
        Body::from_stream(stream::iter((0..count).map(move |_| Ok::<_, std::io::Error>(Bytes::from(vec![7; len])))))
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit_and_not_a_byte_more() {
        let room = InFlight::new(1_000, 100);
        let held = read(&none(), pieces(10, 10), limits(100), &tenant(), &room).await.unwrap();
        assert_eq!((held.bytes.len(), room.bytes()), (100, 100));
        assert_eq!(
            read(&none(), pieces(11, 10), limits(100), &tenant(), &room).await.unwrap_err().code,
            Code::TooLarge
        );
        assert_eq!(
            read(&none(), Body::from(vec![0; 101]), limits(100), &tenant(), &room).await.unwrap_err().code,
            Code::TooLarge
        );
        drop(held);
        assert_eq!(room.bytes(), 0);
    }

    #[tokio::test]
    async fn one_tenant_cannot_take_all_room() {
        let room = InFlight::new(400, 100);
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(read(&none(), pieces(1, 100), limits(100), &tenant(), &room).await.unwrap());
        }
        assert_eq!(read(&none(), pieces(1, 100), limits(100), &tenant(), &room).await.unwrap_err().code, Code::Busy);
        held.push(read(&none(), pieces(1, 100), limits(100), &"other".parse().unwrap(), &room).await.unwrap());
        drop(held);
        assert!(read(&none(), pieces(1, 100), limits(100), &tenant(), &room).await.is_ok());
    }

    #[tokio::test]
    async fn slow_bodies_end() {
        let room = InFlight::new(usize::MAX, usize::MAX);
        let brief = Duration::from_millis(30);
        let stalled = pieces(1, 1).into_data_stream().chain(stream::pending());
        let limits = BodyLimits { idle: brief, ..limits(1 << 30) };
        let failure = read(&none(), Body::from_stream(stalled), limits, &tenant(), &room).await.unwrap_err();
        assert_eq!((failure.code, room.bytes()), (Code::TooSlow, 0));
        // A body that never pauses for long and never ends.
        let drip = stream::unfold((), |()| async {
            tokio::task::yield_now().await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
        });
        let limits = BodyLimits { total: brief, idle: Duration::from_secs(600), ..limits };
        let failure = read(&none(), Body::from_stream(drip), limits, &tenant(), &room).await.unwrap_err();
        assert_eq!((failure.code, room.bytes()), (Code::TooSlow, 0));
    }
}
