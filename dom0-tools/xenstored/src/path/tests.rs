//! Tests of this module.

use super::*;

fn path(text: &str) -> Path {
    Path::absolute(text.to_owned()).unwrap()
}

#[test]
fn checks_syntax() {
    for bad in ["", "a", "//", "/a/", "/a//b", "/a b", "/a.b", "/é"] {
        assert_eq!(
            Path::absolute(bad.to_owned()),
            Err(StoreError::Inval),
            "{bad}"
        );
    }
    assert_eq!(
        Path::resolve(b"data/x", 3).unwrap(),
        path("/local/domain/3/data/x")
    );
    assert_eq!(Path::resolve(b"", 3), Err(StoreError::Inval));
    assert_eq!(Path::resolve(b"/\xff", 3), Err(StoreError::Inval));
}

#[test]
fn limits_length() {
    let long = "x".repeat(REL_PATH_MAX);
    assert!(Path::resolve(long.as_bytes(), 3).is_ok());
    assert!(Path::resolve(format!("{long}x").as_bytes(), 3).is_err());
    assert!(Path::absolute(format!("/{long}")).is_err());
    assert!(Path::absolute(format!("/local/domain/77/{long}")).is_ok());
}

#[test]
fn knows_its_family() {
    assert_eq!(path("/").parent(), None);
    assert_eq!(path("/a").parent(), Some(Path::root()));
    assert_eq!(path("/a/b").parent(), Some(path("/a")));
    assert_eq!(path("/a/b/c").upto(4), path("/a/b"));
    assert_eq!(path("/a/b").upto(1), Path::root());
    let lens = [1, 2, 5].map(|len| path("/a/bc/d").next_len(len));
    assert_eq!(lens, [2, 5, 7]);
    let lineage = |text| path(text).lineage().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lineage("/a/bc"), ["/", "/a", "/a/bc"]);
    assert_eq!(lineage("/"), ["/"]);
    assert_eq!(path("/a/bc").steps().collect::<Vec<_>>(), ["a", "bc"]);
    assert_eq!(path("/a/bc").steps().rev().collect::<Vec<_>>(), ["bc", "a"]);
    assert_eq!(Path::root().steps().next(), None);
    assert_eq!(path("/a/b").depth_below(&path("/a")), Some(1));
    assert_eq!(path("/a/b/c").depth_below(&Path::root()), Some(3));
    assert_eq!(path("/").depth_below(&Path::root()), Some(0));
    assert_eq!(path("/ab").depth_below(&path("/a")), None);
    assert_eq!(path("/a").depth_below(&path("/a/b")), None);
    assert_eq!(path("/local/domain/3/x/y").relative_to(3), "x/y");
    assert_eq!(
        path("/local/domain/33/x").relative_to(3),
        "/local/domain/33/x"
    );
    assert_eq!(Path::root().join("a").join("b"), path("/a/b"));
    assert_eq!(Path::root().join_all(&["a", "b"]), path("/a/b"));
    assert_eq!(path("/a").join_all(&[]), path("/a"));
    let long = path("/a/bc/d");
    let after = |len| long.steps_after(len).collect::<Vec<_>>();
    assert_eq!(after(1), ["a", "bc", "d"]);
    assert_eq!(after(2), ["bc", "d"]);
    assert_eq!(after(7), [""; 0]);
    assert_eq!((path("/a/b").name(), Path::root().name()), ("b", ""));
}
