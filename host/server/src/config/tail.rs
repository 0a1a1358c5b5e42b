//! Settings of live tails.

use serde::{Deserialize, Serialize};

use super::settings::section;

section! {
    /// Live tails (`/v1/tail`): how many there are, and how they are told.
    TailSettings {
        /// Tails at once, over all tenants: each has a connection, and its query is asked of every new frame of its tenant.
        concurrent_max: usize = 256,
        /// Tails of one tenant at once: a team with several each, and not enough to take all of them.
        tenant_concurrent_max: usize = 32,
        /// Where there is nothing to say for so long, a line says that the tail lives, in milliseconds. Proxies cut connections
        /// that are silent for a minute, some for half of it.
        heartbeat_ms: u64 = 15_000,
        /// How long before now a tail may begin, in milliseconds: it reads all rows since then once.
        last_max_ms: u64 = 3_600_000,
        /// New frames of a tenant's signal that are kept for its tails, some 10 KB each. A tail that is further behind goes on with
        /// what comes then, and is told how many rows it was not shown. A busy tenant has 50 frames a second.
        frames_kept: usize = 512,
    }
}
