use super::*;
use crate::perms::Perm;
use crate::quota::Quota;

const GUEST: Caller = Caller {
    domain: 5,
    target: None,
};

fn path(text: &str) -> Path {
    Path::absolute(text.to_owned()).unwrap()
}

fn perms(text: &str) -> Perms {
    let list: Vec<Perm> = text.split(',').map(|p| p.parse().unwrap()).collect();
    Perms::from_list(&list).unwrap()
}

fn run(tree: &mut Tree, who: Caller, change: Change) -> Result<Done> {
    limited(tree, who, &change, &Quota::default())
}

fn limited(tree: &mut Tree, who: Caller, change: &Change, quota: &Quota) -> Result<Done> {
    apply(Target::Store(tree), change, who, &Limits { quota, held: 0 })
}

fn look<'t>(tree: &'t Tree, who: Caller, text: &str) -> Result<NodeView<'t>> {
    let path = path(text);
    read(&View::of_store(tree).nearest(&path), &path, who)
}

fn put(text: &str, value: &[u8]) -> Change {
    Change::Write(path(text), value.into())
}

/// dom0's tree with a home for domain 5, in which it owns `data`.
fn tree() -> Tree {
    let mut tree = Tree::new();
    for text in ["/local/domain/5/data", "/local/domain/6/data", "/secret/x"] {
        run(&mut tree, Caller::DOM0, Change::Mkdir(path(text))).unwrap();
    }
    for (text, value) in [
        ("/local/domain/5", "n0,r5"),
        ("/local/domain/5/data", "n5"),
        ("/local/domain/6", "n0"),
        ("/secret", "n0"),
        ("/secret/x", "n0,r5"),
    ] {
        run(
            &mut tree,
            Caller::DOM0,
            Change::SetPerms(path(text), perms(value)),
        )
        .unwrap();
    }
    tree
}

fn error(tree: &Tree, who: Caller, text: &str) -> StoreError {
    look(tree, who, text).err().unwrap()
}

#[test]
fn guest_reads_what_it_may_only() {
    let tree = tree();
    assert!(look(&tree, GUEST, "/local/domain/5").is_ok());
    assert!(
        look(&tree, GUEST, "/secret/x").is_ok(),
        "a node below a forbidden one"
    );
    assert_eq!(error(&tree, GUEST, "/local/domain/6"), StoreError::Acces);
    assert_eq!(
        error(&tree, GUEST, "/local/domain/6/nothing"),
        StoreError::Acces,
        "must not tell that it is missing"
    );
    assert_eq!(
        error(&tree, GUEST, "/local/domain/5/nothing"),
        StoreError::NoEnt
    );
    assert_eq!(
        error(&tree, Caller::DOM0, "/secret/nothing"),
        StoreError::NoEnt
    );
}

#[test]
fn guest_writes_where_it_may_and_owns_it() {
    let mut tree = tree();
    assert_eq!(
        run(&mut tree, GUEST, put("/local/domain/5/x", b"")).unwrap_err(),
        StoreError::Acces
    );
    assert_eq!(
        run(&mut tree, GUEST, put("/secret/x", b"")).unwrap_err(),
        StoreError::Acces
    );
    let done = run(&mut tree, GUEST, put("/local/domain/5/data/a/b", b"v")).unwrap();
    assert_eq!(
        done.journal,
        [Entry::Put(path("/local/domain/5/data/a/b"))],
        "one record for all that is made"
    );
    assert_eq!(
        tree.get(&path("/local/domain/5/data/a/b"))
            .unwrap()
            .perms
            .owner(),
        5
    );
    assert!(
        run(
            &mut tree,
            GUEST,
            Change::Mkdir(path("/local/domain/5/data/a"))
        )
        .unwrap()
        .events
        .is_empty()
    );
    assert_eq!(
        &*tree.get(&path("/local/domain/5/data/a/b")).unwrap().value,
        b"v"
    );
}

#[test]
fn dom0_makes_what_the_parent_owner_owns() {
    let mut tree = tree();
    run(
        &mut tree,
        Caller::DOM0,
        put("/local/domain/5/data/new", b""),
    )
    .unwrap();
    assert_eq!(
        tree.get(&path("/local/domain/5/data/new"))
            .unwrap()
            .perms
            .owner(),
        5
    );
}

#[test]
fn only_owners_give_rights_and_only_dom0_gives_away() {
    let mut tree = tree();
    let set = |text: &str, value: &str| Change::SetPerms(path(text), perms(value));
    assert_eq!(
        run(&mut tree, GUEST, set("/local/domain/5", "b5")).unwrap_err(),
        StoreError::Acces
    );
    assert_eq!(
        run(&mut tree, GUEST, set("/local/domain/5/data", "n6")).unwrap_err(),
        StoreError::Perm
    );
    run(&mut tree, GUEST, set("/local/domain/5/data", "n5,b6")).unwrap();
    let other = Caller {
        domain: 6,
        target: None,
    };
    assert!(look(&tree, other, "/local/domain/5/data").is_ok());
    assert_eq!(
        run(
            &mut tree,
            GUEST,
            set("/local/domain/5/data", "n5,r1,r2,r3,r4,r6")
        )
        .unwrap_err(),
        StoreError::NoSpc
    );
}

#[test]
fn target_lends_its_rights() {
    let mut tree = tree();
    let helper = Caller {
        domain: 9,
        target: Some(5),
    };
    assert_eq!(
        error(
            &tree,
            Caller {
                domain: 9,
                target: None
            },
            "/local/domain/5/data"
        ),
        StoreError::Acces
    );
    run(&mut tree, helper, put("/local/domain/5/data/x", b"")).unwrap();
    run(
        &mut tree,
        helper,
        Change::SetPerms(path("/local/domain/5/data"), perms("n5,r9")),
    )
    .unwrap();
}

#[test]
fn removing_is_idempotent_below_a_parent() {
    let mut tree = tree();
    assert!(
        run(&mut tree, Caller::DOM0, Change::Remove(path("/secret/x")))
            .unwrap()
            .nodes
            == 1
    );
    assert!(
        run(&mut tree, Caller::DOM0, Change::Remove(path("/secret/x")))
            .unwrap()
            .nodes
            == 0
    );
    assert_eq!(
        run(&mut tree, Caller::DOM0, Change::Remove(path("/none/x"))).unwrap_err(),
        StoreError::NoEnt
    );
    assert_eq!(
        run(&mut tree, Caller::DOM0, Change::Remove(Path::root())).unwrap_err(),
        StoreError::Inval
    );
    assert_eq!(
        run(&mut tree, GUEST, Change::Remove(path("/local/domain/6"))).unwrap_err(),
        StoreError::Acces
    );
}

#[test]
fn limits_bind_guests_and_leave_nothing_half_done() {
    let mut tree = tree();
    let quota = Quota {
        nodes: 3,
        node_size: 64,
        ..Quota::default()
    };
    let mut run = |who, change| limited(&mut tree, who, &change, &quota);
    assert_eq!(
        run(GUEST, put("/local/domain/5/data/a/b/c", b"")).unwrap_err(),
        StoreError::NoSpc
    );
    run(GUEST, put("/local/domain/5/data/a/b", b"")).unwrap();
    assert_eq!(
        run(GUEST, put("/local/domain/5/data/c", b"")).unwrap_err(),
        StoreError::NoSpc
    );
    assert_eq!(
        run(GUEST, put("/local/domain/5/data/a", &[0; 64])).unwrap_err(),
        StoreError::NoSpc
    );
    run(GUEST, put("/local/domain/5/data/a", &[0; 40])).unwrap();
    run(Caller::DOM0, put("/local/domain/5/data/d", &[0; 100])).unwrap();
    assert!(tree.get(&path("/local/domain/5/data/c")).is_none());
    assert!(tree.is_consistent());
}
