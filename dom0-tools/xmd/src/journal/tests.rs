//! Entries of other versions: the first one's are read, a newer one's lose nothing.

use super::*;

/// An entry as 929ed23 wrote it, with a pending attach.
const FIRST: &str = r#"{"uuid":"01234567-89ab-4def-8123-456789abcdef","config":{"name":"demo",
"uuid":"01234567-89ab-4def-8123-456789abcdef","memory_mib":192,"maxmem_mib":256,"vcpus":1,"max_vcpus":2,
"affinity":{"Together":{"Some":[0,1]}},"soft_affinity":{"Each":["All",{"Some":[3]}]},"cpu_weight":512,
"cap":null,"kernel":"/boot/vmlinuz","ramdisk":null,"bootloader":{"entry":null},"cmdline":"console=hvc0",
"actions":{"poweroff":"destroy","reboot":"restart","crash":"rename-restart","watchdog":"destroy",
"soft_reset":"soft-reset"},"disks":[{"target":"/a.img","format":"raw","vdev":"xvda","access":"rw",
"shared":false,"cdrom":false,"backend":null,"backendtype":null,"script":null,"direct_io_safe":false,
"discard":null}],"vifs":[{"mac":[0,22,62,1,2,3],"bridge":null,"network":{"private":"blue"},"vlan":null,
"antispoof":"ip","gatewaydev":null,"vifname":null,"script":null,"ip":["192.0.2.1"],"backend":null,
"model":null,"rate":{"bytes":1000,"interval_us":50000},"mtu":1400,"devid":0,"trusted":null}],
"localtime":false,"rtc_timeoffset":-3600,"tsc_mode":"native_paravirt","max_grant_frames":64,
"max_maptrack_frames":1024,"max_grant_version":2,"max_event_channels":1023,"hap":null,
"shadow_memory_mib":null,"nomigrate":false},"state":"running","domain":3,
"pending":[{"attach":{"vbd":{"target":"/b.img","format":"qcow2","vdev":"xvdb","access":"ro"}}},
{"detach":{"kind":"vif","id":0}}]}"#;

fn read(text: &str) -> (Entry, Vec<String>) {
    Entry::from_json(text.as_bytes()).expect("an entry")
}

fn json(entry: &Entry) -> Value {
    serde_json::from_slice(&entry.to_json().expect("JSON")).expect("JSON")
}

#[test]
fn an_entry_of_the_first_version_is_read_and_becomes_one_of_this() {
    let (entry, warnings) = read(FIRST);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(entry, serde_json::from_str(FIRST).expect("strictly too"));
    assert_eq!(entry.pending.len(), 2);
    assert_eq!(entry.config.rtc_timeoffset, -3600);
    let written = json(&entry);
    assert_eq!(written["version"], VERSION);
    let (again, _) = read(&written.to_string());
    assert_eq!(again, entry);
}

#[test]
fn what_a_newer_version_wrote_is_told_of_and_kept() {
    let mut newer: Value = serde_json::from_str(FIRST).expect("JSON");
    newer["version"] = 7.into();
    newer["mood"] = "good".into();
    newer["config"]["colour"] = serde_json::json!({ "red": [1, 2] });
    newer["config"]["actions"]["fire"] = "run".into();
    newer["config"]["disks"][0]["cache"] = "none".into();
    newer["config"]["vifs"][0]["rate"]["burst"] = 9.into();
    newer["config"]["vifs"][0]["queues"] = 2.into();
    newer["pending"][0]["attach"]["vbd"]["cache"] = true.into();
    let (mut entry, warnings) = read(&newer.to_string());
    assert_eq!(warnings.len(), 8, "{warnings:?}");
    for part in [
        "version 7",
        "config.colour is",
        "config.disks.cache is",
        "mood is",
    ] {
        assert!(
            warnings.iter().any(|text| text.contains(part)),
            "{part}: {warnings:?}"
        );
    }
    newer["version"] = VERSION.into();
    let without = |value: &Value| {
        let mut value = value.clone();
        // What the types complete is no loss.
        value["pending"][0]["attach"]["vbd"] = Value::Null;
        value
    };
    assert_eq!(without(&json(&entry)), without(&newer));
    assert_eq!(json(&entry)["pending"][0]["attach"]["vbd"]["cache"], true);
    // A change elsewhere takes nothing along; what goes takes its own with it.
    let disk = entry.config.disks.remove(0);
    entry.config.vifs[0].mtu = Some(1500);
    entry.config.name = "other".into();
    let changed = json(&entry);
    assert_eq!(changed["config"]["colour"], newer["config"]["colour"]);
    assert_eq!(changed["config"]["disks"], Value::Array(Vec::new()));
    assert_eq!(changed["config"]["vifs"][0].get("queues"), None);
    // Another disk before it does not get what belongs to it.
    let mut first = disk.clone();
    first.vdev = "xvdz".into();
    entry.config.disks = vec![first, disk];
    let disks = &json(&entry)["config"]["disks"];
    assert_eq!(
        (disks[0].get("cache"), &disks[1]["cache"]),
        (None, &"none".into())
    );
}

#[test]
fn one_bad_file_does_not_hide_the_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(directory.path()).expect("a journal");
    let (entry, _) = read(FIRST);
    journal.write(&entry).expect("written");
    let put = |name: &str, text: &str| fs::write(directory.path().join(name), text);
    put("a.json", "{\"uuid\":").expect("a file");
    put("b.json", &FIRST.replace("\"running\"", "\"flying\"")).expect("a file");
    put("c.new", "half").expect("a file");
    fs::create_dir(directory.path().join("d.json")).expect("a directory");
    let (entries, warnings) = journal.read().expect("the directory");
    assert_eq!(entries, [entry]);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(
        warnings.iter().all(|text| text.contains("left alone")),
        "{warnings:?}"
    );
}

#[test]
fn what_cannot_be_written_leaves_the_old_entry_and_no_rest() {
    let directory = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(directory.path()).expect("a journal");
    let (mut entry, _) = read(FIRST);
    journal.write(&entry).expect("written");
    let path = journal.path(entry.uuid);
    let old = fs::read(&path).expect("it");
    // The last step fails.
    fs::remove_file(&path).expect("it");
    fs::create_dir(&path).expect("a directory in the way");
    entry.domain = Some(9);
    journal
        .write(&entry)
        .expect_err("a directory is in the way");
    assert!(!path.with_extension("new").exists());
    fs::remove_dir(&path).expect("it");
    fs::write(&path, old).expect("it");
    assert_eq!(journal.read().expect("the directory").0[0].domain, Some(3));
}
