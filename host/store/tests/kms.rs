//! Tenants' keys in AWS KMS, against `moto`.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use prism_model::{Classify as _, Kind, TenantId};
use prism_store::disk::RealDisk;
use prism_store::keys::{KeyError, KeyService, Keyring, Kms, KmsOptions, Scheme};
use prism_store::{Reader, Store, StoreError, StoreOptions, Surroundings};
use support::moto::Moto;
use support::{NOW, all, numbered, numbers, tenant};

const REGION: &str = "eu-west-1";
/// Set for a process in which the tests run: credentials are found in the environment, which a test must not change.
const INSIDE: &str = "PRISM_TEST_KMS_INSIDE";

/// Whether this process is the one with credentials; else runs the test in such a one.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .envs([(INSIDE, "1"), ("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")])
        .status();
    assert!(child.unwrap().success());
    false
}

fn kms(moto: &str, key: &str) -> Arc<Kms> {
    let options = KmsOptions { key: key.to_owned(), region: REGION.to_owned(), url: moto.to_owned() };
    Arc::new(Kms::open(&options).unwrap())
}

fn open(root: &Path, keys: &Keyring, writer: u64) -> Arc<Store> {
    let options = StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() };
    let (disk, clock) = (Arc::new(RealDisk), Arc::new(|| NOW));
    Store::open_in(root, options, Surroundings { disk, clock, writer, keys: keys.clone() })
}

fn reader(root: &Path, keys: &Keyring) -> Reader {
    let objects = prism_store::objects::LocalObjects::new(Arc::new(RealDisk), &root.join("objects"), 0);
    Reader::open_with(Arc::new(RealDisk), Arc::new(objects), root, keys.clone(), prism_store::READ_GRACE)
}

#[test]
fn keys_of_kms_are_bound_to_their_tenant_and_asked_for_once() {
    if !inside("keys_of_kms_are_bound_to_their_tenant_and_asked_for_once") {
        return;
    }
    let Some(moto) = Moto::start() else { return };
    let created: serde_json::Value = serde_json::from_str(&moto.kms("CreateKey", "{}")).unwrap();
    let key = created["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned();
    let service = kms(&moto.url(), &key);
    let (plain, sealed) = service.generate(&tenant()).unwrap();
    assert_eq!(service.open(&tenant(), &sealed).unwrap(), plain);
    let other: TenantId = "other".parse().unwrap();
    assert!(matches!(service.open(&other, &sealed), Err(KeyError::Refused(_))), "another tenant's context");
    let missing = kms(&moto.url(), "00000000-0000-0000-0000-000000000000").generate(&tenant()).unwrap_err();
    assert!(matches!(missing, KeyError::Refused(_)) && missing.to_string() == "the key service refused", "{missing}");

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let root = tempfile::tempdir().unwrap();
    let ring = |service: Option<Arc<dyn KeyService>>| {
        Keyring::open(root.path(), &root.path().join("keys"), Scheme::Kms, service)
    };
    let keys = ring(Some(service.clone()));
    runtime.block_on(async {
        let store = open(root.path(), &keys, 1);
        store.append(&tenant(), numbered(1, &[NOW])).await.unwrap();
        store.close().await;
        let rotated = keys.clone();
        assert_eq!(tokio::task::spawn_blocking(move || rotated.rotate(&tenant(), None)).await.unwrap().unwrap(), 2);
        let store = open(root.path(), &keys, 2);
        store.append(&tenant(), numbered(2, &[NOW])).await.unwrap();
        // What the folder holds opens nothing by itself.
        let record = std::fs::read_to_string(root.path().join("keys/acme/00000000000000000001")).unwrap();
        assert!(record.contains("\"kms\"") && !record.contains(&hex::encode(plain)), "{record}");
        let without = all(&reader(root.path(), &ring(None)));
        assert!(without.frames.is_empty() && without.unreadable.len() == 2);
        assert!(without.unreadable[0].reason.contains("`encryption.kms_key`"), "{:?}", without.unreadable);
        assert_eq!(numbers(&all(&reader(root.path(), &ring(Some(service.clone()))))), [1, 2]);

        // KMS is gone. Who has the key goes on; who must ask is told to come again, for this tenant.
        moto.stop();
        store.append(&tenant(), numbered(3, &[NOW])).await.unwrap();
        assert_eq!(numbers(&all(&reader(root.path(), &keys))), [1, 2, 3]);
        let cold = ring(Some(service.clone()));
        let unread = all(&reader(root.path(), &cold));
        assert_eq!((unread.frames.len(), unread.unreadable.len()), (0, 2));
        assert_eq!(unread.unreadable[0].reason, "the key service does not answer");
        let fresh = open(root.path(), &cold, 3);
        let refused = fresh.append(&tenant(), numbered(4, &[NOW])).await.unwrap_err();
        assert!(matches!(refused, StoreError::Key(KeyError::Unreachable(_))), "{refused}");
        assert_eq!(
            (refused.kind(), refused.to_string()),
            (Kind::Retry, "encryption: the key service does not answer".into())
        );
        // One whose keys are local does not need it.
        let local: TenantId = "local".parse().unwrap();
        let (switch, name) = (cold.clone(), local.clone());
        tokio::task::spawn_blocking(move || switch.rotate(&name, Some(Scheme::Local))).await.unwrap().unwrap();
        fresh.append(&local, numbered(5, &[NOW])).await.unwrap();
        fresh.close().await;
        store.close().await;
    });
}

#[test]
fn options_that_cannot_work_are_told() {
    let open = |key: &str, url: &str| {
        let options = KmsOptions { key: key.to_owned(), region: REGION.to_owned(), url: url.to_owned() };
        Kms::open(&options).map(|_| ()).unwrap_err()
    };
    assert!(open("", "").starts_with("`encryption.kms_key`"));
    for bad in ["kms.example.com", "ftp://x", "http://", "://"] {
        assert!(open("alias/prism", bad).starts_with("`encryption.kms_url`"), "{bad}");
    }
}
