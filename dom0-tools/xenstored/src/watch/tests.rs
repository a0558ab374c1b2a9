//! Tests of this module.

use super::*;

fn watch(path: &str, depth: Option<u32>) -> Watch {
    Watch::parse(path.as_bytes(), b"t", depth, 3).unwrap()
}

fn told(watch: &Watch, path: &str) -> Option<String> {
    watch
        .on_change(&Path::absolute(path.to_owned()).unwrap())
        .map(str::to_owned)
}

#[test]
fn sees_what_is_below() {
    assert_eq!(
        told(&watch("/a", None), "/a/b/c").as_deref(),
        Some("/a/b/c")
    );
    assert_eq!(told(&watch("/a", None), "/a").as_deref(), Some("/a"));
    assert_eq!(told(&watch("/a", None), "/ab"), None);
    assert_eq!(told(&watch("/a/b", None), "/a"), None);
}

#[test]
fn depth_limits() {
    assert_eq!(told(&watch("/a", Some(0)), "/a").as_deref(), Some("/a"));
    assert_eq!(told(&watch("/a", Some(0)), "/a/b"), None);
    assert_eq!(told(&watch("/a", Some(1)), "/a/b").as_deref(), Some("/a/b"));
    assert_eq!(told(&watch("/a", Some(1)), "/a/b/c"), None);
}

#[test]
fn relative_stays_relative() {
    let watch = watch("device", None);
    assert_eq!(watch.path(), "device");
    assert_eq!(
        told(&watch, "/local/domain/3/device/vif/0").as_deref(),
        Some("device/vif/0")
    );
    assert_eq!(told(&watch, "/local/domain/4/device/vif/0"), None);
}

#[test]
fn special_events_name_the_domain_when_asked() {
    assert_eq!(
        watch("@releaseDomain", None)
            .on_special(Special::Release, 7)
            .unwrap(),
        "@releaseDomain"
    );
    assert_eq!(
        watch("@releaseDomain", Some(1))
            .on_special(Special::Release, 7)
            .unwrap(),
        "@releaseDomain/7"
    );
    assert_eq!(
        watch("@releaseDomain/7", None)
            .on_special(Special::Release, 7)
            .unwrap(),
        "@releaseDomain/7"
    );
    assert_eq!(
        watch("@releaseDomain/8", None).on_special(Special::Release, 7),
        None
    );
    assert_eq!(
        watch("@introduceDomain", None).on_special(Special::Release, 7),
        None
    );
}
