//! Copies of one request that several processes store at the same moment: each is stored once, whatever the order of steps.
//!
//! `PRISM_SIM_SEEDS=n` sets how many orders are tried, `PRISM_SIM_SEED=n` replays one with its whole history.

#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use prism_model::Signal;
use prism_model::window::WINDOW_NANOS;
use prism_store::{StoreError, StoreOptions};
use support::again::Remembers;
use support::model::Again;
use support::turnstile::Faults;
use support::world::{Node, World, seeds};
use support::{NOW, tenant};

/// Runs where the environment does not say.
const SEEDS: u64 = 150;
const SEATS: usize = 3;
const BATCHES: usize = 6;

/// What the processes of a run were told.
#[derive(Default)]
struct Told {
    kept: AtomicUsize,
    stored: AtomicUsize,
    under_way: AtomicUsize,
}

/// Sends each batch until it is said to be stored, as a client does that is told to send again.
async fn sends_all(node: Node, batches: Arc<Vec<Again>>, told: Arc<Told>) {
    let lane = (tenant(), Signal::Spans);
    let options = StoreOptions { commit_delay_ms: 1, frame_rows: 2, ..StoreOptions::default() };
    let remembers = Remembers::open(&node, &options, std::slice::from_ref(&lane));
    for batch in batches.iter() {
        loop {
            let answer = node.sends_copy(&remembers, &lane, batch).await.unwrap();
            match &answer {
                Ok(()) => told.kept.fetch_add(1, Relaxed),
                Err(StoreError::Stored) => told.stored.fetch_add(1, Relaxed),
                Err(StoreError::UnderWay) => told.under_way.fetch_add(1, Relaxed),
                Err(e) => return node.world.turnstile.fail(&format!("refused although nothing fails: {e}")),
            };
            if answer.is_ok() || matches!(answer, Err(StoreError::Stored)) {
                break;
            }
        }
        node.looks(&node.reader(), &lane, false);
    }
    // As long as one that comes and goes within a second may be missed.
    tokio::time::sleep(Duration::from_secs(2)).await;
    remembers.store.close().await;
}

fn run(seed: u64) {
    let world = World::new(seed, SEATS, Faults { switch: [1, 2, 8][seed as usize % 3], ..Faults::default() }, 0);
    let lane = (tenant(), Signal::Spans);
    let batch = |n: usize| {
        // In one frame, in several, in several files.
        let times = [&[NOW][..], &[NOW; 5], &[NOW, NOW - WINDOW_NANOS, NOW]][n % 3].to_vec();
        Again { first: world.model.sends_at_once(&lane, &times), times, may_be: true }
    };
    let batches: Arc<Vec<Again>> = Arc::new((0..BATCHES).map(batch).collect());
    let told: Arc<Told> = Arc::default();
    world.run(SEATS, &|node| Box::pin(sends_all(node, batches.clone(), told.clone())));
    world.afterwards(&|node| {
        let lane = lane.clone();
        Box::pin(async move { node.looks(&node.reader(), &lane, true) })
    });
    world.end("at once");
    assert_eq!(told.kept.load(Relaxed), BATCHES, "seed {seed}: each batch is stored by one");
    assert_eq!(told.stored.load(Relaxed), BATCHES * (SEATS - 1), "seed {seed}");
}

#[test]
fn st1_copies_of_a_request_in_several_processes_at_once_are_stored_once() {
    seeds(SEEDS, run);
}
