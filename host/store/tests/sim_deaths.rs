//! Each protocol, killed at each of its steps: a scenario dies once at every storage operation, in every way, and then all
//! is looked at.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use prism_model::samples::Random;
use prism_model::window::WINDOW_NANOS;
use prism_model::{Signal, TenantId};
use prism_store::{StoreError, StoreOptions};
use support::again::Remembers;
use support::tenant;
use support::tiers::Step;
use support::turnstile::Death;
use support::world::{Node, dies_everywhere};

/// Power that is lost leaves something else each time.
const ALL: [Death; 4] = [Death::Kill, Death::Lose, Death::Crash, Death::Crash];

/// Hours of a simulated life follow each death, so that by default only each so manieth step is died at; `PRISM_SIM_DEATHS=all`
/// takes all. Sealing alone dies at each of its steps in `seal.rs`, what makes and joins cold files in `cold.rs`.
const MOVES_STRIDE: usize = 11;

fn options() -> StoreOptions {
    StoreOptions { commit_delay_ms: 2, frame_rows: 4, segments_open_max: 2, ..StoreOptions::default() }
}

fn lane() -> (TenantId, Signal) {
    (tenant(), Signal::Spans)
}

/// Appends to one window and over two, closes, and begins again.
async fn appends(node: Node) {
    let now = node.now();
    for _ in 0..2 {
        let store = node.store(&options());
        node.sends(&store, &lane(), &[now; 3]).await;
        node.sends(&store, &lane(), &[now, now - WINDOW_NANOS, now - 24 * WINDOW_NANOS]).await;
        node.sends(&store, &lane(), &[now; 5]).await;
        store.close().await;
    }
}

/// The second process leaves segments open; the first one ends them, while it writes itself.
async fn takes_over(node: Node) {
    let store = node.store(&options());
    let now = node.now();
    node.sends(&store, &lane(), &[now; 3]).await;
    node.sends(&store, &lane(), &[now, now - WINDOW_NANOS]).await;
    if node.process.seat() == 0 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        node.sends(&store, &lane(), &[now; 2]).await;
        store.close().await;
    }
}

/// What is there stays, whoever looks, and writing goes on. What the dead left open is ended.
async fn recovers(node: Node) {
    node.looks(&node.reader(), &lane(), true);
    let store = node.store(&options());
    let now = node.now();
    node.sends(&store, &lane(), &[now, now - WINDOW_NANOS]).await;
    node.looks(&store.reader(), &lane(), true);
    node.outlives_the_dead(&options()).await;
    store.close().await;
    node.looks(&node.reader(), &lane(), true);
    node.has_no_writers_left();
}

/// Both processes write, over windows that end while they do, and the first one moves them on.
async fn moves(node: Node) {
    let store = node.store(&options());
    let tiers = node.tiers();
    for _ in 0..3 {
        let now = node.now();
        node.sends(&store, &lane(), &[now; 3]).await;
        node.sends(&store, &lane(), &[now, now - WINDOW_NANOS]).await;
        tokio::time::sleep(Duration::from_secs(400)).await;
        if node.process.seat() == 0 {
            // What fails is tried again by the next pass.
            for step in Step::ALL {
                let _ = tiers.takes(step, &lane());
                tokio::time::sleep(Duration::from_secs(30)).await;
            }
        }
    }
    store.close().await;
}

/// Nothing is lost or there twice, and all moves on.
async fn moves_on(node: Node) {
    node.looks(&node.reader(), &lane(), true);
    node.outlives_the_dead(&options()).await;
    node.looks(&node.reader(), &lane(), true);
    node.all_grow_cold().await;
    node.numbers_have_no_gaps();
}

#[test]
fn st4_moving_to_cold_dies_at_every_step() {
    let steps = dies_everywhere("move", 2, &[Death::Crash], MOVES_STRIDE, &|node| Box::pin(moves(node)), &|node| {
        Box::pin(moves_on(node))
    });
    assert!(steps > 200, "{steps}");
}

/// Bytes of a block change before it is promoted, and it is mended afterwards.
async fn moves_beside_damage(node: Node) {
    let mut random = Random(node.world.seed);
    let (store, tiers) = (node.store(&options()), node.tiers());
    for n in 0..3 {
        node.sends(&store, &lane(), &[node.now() - n * WINDOW_NANOS; 9]).await;
    }
    store.close().await;
    tokio::time::sleep(Duration::from_secs(4_000)).await;
    // What fails is tried again by the next pass.
    let _ = tiers.takes(Step::Seal, &lane());
    node.spoils(&lane(), &mut random);
    for step in [Step::Promote, Step::Reclaim, Step::Retire] {
        let _ = tiers.takes(step, &lane());
        tokio::time::sleep(Duration::from_secs(200)).await;
    }
    node.mends();
    for step in [Step::Promote, Step::Retire] {
        let _ = tiers.takes(step, &lane());
        tokio::time::sleep(Duration::from_secs(200)).await;
    }
    let _ = tiers.takes(Step::Retire, &lane());
}

#[test]
fn st4_promoting_beside_damaged_rows_dies_at_every_step() {
    let steps =
        dies_everywhere("damage", 1, &ALL, MOVES_STRIDE, &|node| Box::pin(moves_beside_damage(node)), &|node| {
            Box::pin(async move {
                node.outlives_the_dead(&options()).await;
                node.keeps_what_is_damaged().await;
                node.looks(&node.reader(), &lane(), true);
                node.all_grow_cold().await;
                node.has_no_copies_left();
            })
        });
    assert!(steps > 100, "{steps}");
}

#[test]
fn st1_appending_dies_at_every_step() {
    let steps =
        dies_everywhere("append", 1, &ALL, 1, &|node| Box::pin(appends(node)), &|node| Box::pin(recovers(node)));
    assert!(steps > 50, "{steps}");
}

/// One process writes; another one watches, and sends what the first got no answer to, or gets one at this moment.
async fn watches(node: Node) {
    let remembers = Remembers::open(&node, &options(), &[lane()]);
    let now = node.now();
    if node.process.seat() == 0 {
        for _ in 0..2 {
            node.sends_once(&remembers, &lane(), &[now; 3]).await;
            node.sends_once(&remembers, &lane(), &[now, now - WINDOW_NANOS, now - 24 * WINDOW_NANOS]).await;
            node.sends_once(&remembers, &lane(), &[now; 5]).await;
        }
        return remembers.store.close().await;
    }
    while node.sends_again(&remembers, &lane()).await.is_some() {}
    node.sends(&remembers.store, &lane(), &[now; 2]).await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        while node.sends_again(&remembers, &lane()).await.is_some() {}
    }
}

/// What was not answered is sent again, until all of it is. Gives how much was stored already.
async fn is_stored_once(node: Node) -> usize {
    node.looks(&node.reader(), &lane(), true);
    let remembers = Remembers::open(&node, &options(), &[lane()]);
    let mut stored = 0;
    tokio::time::sleep(Duration::from_secs(8)).await;
    while let Some(answer) = node.sends_again(&remembers, &lane()).await {
        match answer {
            Ok(()) => {}
            Err(StoreError::Stored) => stored += 1,
            // A dead process has claimed it, until its lease is over.
            Err(StoreError::UnderWay) => tokio::time::sleep(Duration::from_secs(6)).await,
            Err(e) => node.world.turnstile.fail(&format!("refused although nothing fails: {e}")),
        }
        node.looks(&node.reader(), &lane(), true);
    }
    node.outlives_the_dead(&options()).await;
    remembers.store.close().await;
    node.looks(&node.reader(), &lane(), true);
    stored
}

#[test]
fn st1_what_is_sent_again_after_a_death_at_any_step_is_stored_once() {
    for (seats, stride) in [(1, 1), (2, 7)] {
        let stored = Arc::new(AtomicUsize::new(0));
        let steps = dies_everywhere("again", seats, &ALL[..3], stride, &|node| Box::pin(watches(node)), &|node| {
            let stored = stored.clone();
            Box::pin(async move {
                stored.fetch_add(is_stored_once(node).await, Relaxed);
            })
        });
        assert!(steps > 50, "{steps}");
        // Between the sync and the answer are some steps.
        assert!(seats > 1 || stored.load(Relaxed) > 10, "{stored:?}");
    }
}

#[test]
fn st1_taking_over_dies_at_every_step() {
    let steps =
        dies_everywhere("takeover", 2, &ALL, 1, &|node| Box::pin(takes_over(node)), &|node| Box::pin(recovers(node)));
    assert!(steps > 100, "{steps}");
}
