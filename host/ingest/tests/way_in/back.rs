//! A binding's way back: to another version of its plugin, to another configuration, to being bound at all.

use prism_plugin::Binding;

use super::*;

/// The same plugin as another version: a custom section of one byte makes other bytes of it.
fn version(number: u8) -> Vec<u8> {
    [drop_filter(), &[0, 3, 1, b'v', number]].concat()
}

fn names(node: &Node) -> Vec<String> {
    bindings::list(node.root.path(), &tenant()).unwrap().into_iter().map(|b| b.name).collect()
}

impl Node {
    fn bind(&self, component: &[u8], new: NewBinding) -> bindings::Bound {
        bindings::bind(self.root.path(), &self.host, &tenant(), component, new).unwrap()
    }

    fn roll_back(&self, name: &str, to: Option<u64>) -> Result<bindings::RolledBack, BindError> {
        bindings::rollback(self.root.path(), &self.host, &tenant(), name, to)
    }

    fn history(&self, name: &str) -> Vec<(u64, Option<Binding>)> {
        let versions = bindings::history(self.root.path(), &tenant(), name).unwrap();
        versions.into_iter().map(|v| (v.change, v.binding)).collect()
    }

    /// How many spans of these names are dropped, once a change counts.
    async fn dropped(&self, names: &[&str]) -> u64 {
        self.pass(1_000);
        self.send(spans(names)).await.unwrap().dropped
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_goes_back_to_what_it_was_while_rows_come_in() {
    let node = Node::new(PipelineOptions::default());
    let first = node.bind(&version(1), drops("noise")).binding;
    assert_eq!(node.dropped(&["noise", "a"]).await, 1);

    // A newer version is uploaded, which changes nothing, and bound by its hash: it keeps what the older one was told.
    let plugin = bindings::upload(node.root.path(), &node.host, &tenant(), &version(2)).unwrap();
    assert_ne!(plugin.hash(), first.plugin);
    assert_eq!(bindings::list(node.root.path(), &tenant()).unwrap(), std::slice::from_ref(&first));
    let uploaded = |hash: &str| bindings::uploaded(node.root.path(), &tenant(), hash);
    assert_eq!(uploaded(&plugin.hash()[..12]).unwrap(), version(2));
    let bindings::Bound { binding: second, before } = node.bind(&version(2), NewBinding::default());
    assert_eq!((before, &second.config), (Some(first.clone()), &first.config));
    assert_eq!(second.plugin, plugin.hash());
    assert_eq!(node.dropped(&["noise", "b"]).await, 1);
    let third = node.bind(&version(2), drops("a")).binding;
    assert_eq!(node.dropped(&["noise", "a", "c"]).await, 1);

    // Changes of others lie between.
    let other = node.bind(&version(1), NewBinding { name: Some("other".to_owned()), ..drops("x") }).binding;
    let [one, two, three] = [&first, &second, &third].map(|binding| Some(binding.clone()));
    assert_eq!(node.history(&first.name), [(3, three.clone()), (2, two.clone()), (1, one.clone())]);
    let back = node.roll_back(&first.name, None).unwrap();
    assert_eq!((back.from.as_ref(), &back.to, back.change), (Some(&third), &second, 2));
    assert_eq!(node.dropped(&["noise", "a", "d"]).await, 1);
    assert_eq!(node.roll_back(&first.name, None).unwrap().to, third, "once more goes forward");
    assert_eq!(node.roll_back(&first.name, Some(1)).unwrap().to, first);
    let all = [(7, one), (6, three.clone()), (5, two.clone()), (3, three), (2, two)];
    assert_eq!(node.history(&first.name)[..5], all);

    // One that was taken away stands where it stood.
    bindings::unbind(node.root.path(), &tenant(), &first.name).unwrap();
    assert_eq!(node.dropped(&["noise", "e"]).await, 0);
    assert_eq!(node.history(&first.name)[0], (8, None));
    let back = node.roll_back(&first.name, None).unwrap();
    assert_eq!((back.from, &back.to), (None, &first));
    assert_eq!(names(&node), [first.name.as_str(), &other.name]);
    assert_eq!(node.dropped(&["noise", "f"]).await, 1);

    for (refused, expected) in [
        (node.roll_back(&other.name, None).unwrap_err(), "was never another than it is"),
        (node.roll_back(&first.name, Some(4)).unwrap_err(), "no former state by change 4"),
        (node.roll_back("nobody", None).unwrap_err(), "has no binding `nobody`"),
        (uploaded(&"0".repeat(12)).unwrap_err(), "`000000000000`, which 0 of them begin with"),
    ] {
        assert_eq!(refused.kind(), Kind::NotFound);
        assert!(refused.to_string().contains(expected), "{refused}");
    }
    assert_eq!(uploaded("../../../").unwrap_err().kind(), Kind::Fix);
}

#[tokio::test]
async fn what_cannot_run_is_not_gone_back_to() {
    let node = Node::new(PipelineOptions::default());
    let first = node.bind(&version(1), drops("noise")).binding;
    let second = node.bind(&version(2), drops("a")).binding;
    let blob = node.root.path().join("blobs/tenants/acme/plugins").join(&first.plugin[..2]).join(&first.plugin);
    std::fs::write(&blob, b"no longer what it was").unwrap();
    assert!(node.roll_back(&first.name, None).is_err());
    assert_eq!(bindings::list(node.root.path(), &tenant()).unwrap(), std::slice::from_ref(&second));
    // A change that cannot be read is passed over, and the latest one must be read.
    let log = Log::open(node.root.path(), "tenants/acme/bindings").unwrap();
    log.create(3, b"no json").unwrap();
    assert_eq!(node.history(&first.name), [(2, Some(second.clone())), (1, Some(first.clone()))]);
    assert_eq!(node.roll_back(&first.name, None).unwrap_err().kind(), Kind::Bug);
    log.create(4, br#"{"bindings":[]}"#).unwrap();
    assert_eq!(node.roll_back(&first.name, None).unwrap().to, second);
}

#[tokio::test]
async fn st_5_of_changes_at_the_same_time_each_is_kept() {
    let node = Node::new(PipelineOptions::default());
    for (name, noise) in [("a", "1"), ("b", "1"), ("a", "2"), ("b", "2")] {
        node.bind(&version(1), NewBinding { name: Some(name.to_owned()), ..drops(noise) });
    }
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let node = &node;
            scope.spawn(move || (0..5).for_each(|_| drop(node.roll_back(name, None).unwrap())));
        }
    });
    for name in ["a", "b"] {
        let history = node.history(name);
        assert_eq!(history.len(), 7);
        let config = |at: usize| history[at].1.clone().map(|b| b.config);
        assert!((0..5).all(|at| config(at) == config(at + 2)) && config(0) != config(1), "it went back and forth");
    }
}
