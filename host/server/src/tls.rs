//! TLS 1.3 for every listener.
//!
//! ```text
//! files (PEM) -> certificate (a configuration of rustls, and when it ends) -> live (the one in force, reloaded) -> handshake
//! ```
//!
//! Not here: what is said over the connection (`http::connections`), and TLS of the commands that ask a server (`client`).

mod validity;
mod certificate;
mod live;
mod handshake;

pub(crate) use certificate::Files;
pub(crate) use live::Tls;
