//! Tests of this module.

use super::*;

fn record(n: u16) -> Record {
    Record::Release { domain: n }
}

#[test]
fn gives_back_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, old) = Journal::open(dir.path()).unwrap();
    assert!(old.records.is_empty());
    journal.append(&[record(1), record(2)]).unwrap();
    journal.append(&[record(3)]).unwrap();
    assert!(Journal::open(dir.path()).is_err(), "locked");
    drop(journal);
    let (mut journal, old) = Journal::open(dir.path()).unwrap();
    assert_eq!(old.records, [record(1), record(2), record(3)]);
    journal.replace(&[record(9)]).unwrap();
    journal.append(&[record(10)]).unwrap();
    drop(journal);
    assert_eq!(
        Journal::open(dir.path()).unwrap().1.records,
        [record(9), record(10)]
    );
}

#[test]
fn drops_a_frame_that_was_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("journal");
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    journal.append(&[record(1)]).unwrap();
    let keep = fs::read(&file).unwrap().len();
    journal.append(&[record(2), record(3)]).unwrap();
    drop(journal);
    let whole = fs::read(&file).unwrap();
    for cut in keep..whole.len() {
        fs::write(&file, &whole[..cut]).unwrap();
        let (mut journal, old) = Journal::open(dir.path()).unwrap();
        assert_eq!(old.records, [record(1)], "cut at {cut}");
        journal.append(&[record(4)]).unwrap();
        drop(journal);
        assert_eq!(
            Journal::open(dir.path()).unwrap().1.records,
            [record(1), record(4)]
        );
    }
}

#[test]
fn another_boot_is_another_story() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("journal"),
        "oxen xenstored journal 1 some-other-boot\nxxxxxxxx",
    )
    .unwrap();
    assert!(Journal::open(dir.path()).unwrap().1.records.is_empty());
}

/// A journal whose file system is full, and what it would take to empty that.
fn on_a_full_disk(dir: &Path) -> Journal {
    let (mut journal, _) = Journal::open(dir).unwrap();
    journal.append(&[record(1)]).unwrap();
    journal.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
    fs::create_dir(dir.join("journal.new")).unwrap();
    journal
}

#[test]
fn nothing_follows_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = on_a_full_disk(dir.path());
    let now = Instant::now();
    let all = || vec![record(1), record(2), record(3)];
    let failed = journal.save(&[record(2)], all, now);
    assert!(matches!(failed, Saved::Failed(_)), "{failed:?}");
    // There is room again, but what is missing is missing.
    let (path, at) = (dir.path().join("journal"), journal.len);
    journal.file = OpenOptions::new().write(true).open(&path).unwrap();
    journal.file.seek(SeekFrom::Start(at)).unwrap();
    fs::remove_dir(dir.path().join("journal.new")).unwrap();
    let early = journal.save(&[record(3)], all, now);
    assert!(matches!(early, Saved::Stale), "{early:?}");
    let written = fs::read(&path).unwrap();
    assert_eq!(read(&written).0.records, [record(1)]);
    let later = journal.retry_at().unwrap();
    assert!(matches!(journal.save(&[], all, later), Saved::Again));
    assert_eq!(journal.retry_at(), None);
    assert!(matches!(
        journal.save(&[record(4)], all, later),
        Saved::Written
    ));
    drop(journal);
    let found = Journal::open(dir.path()).unwrap().1;
    assert_eq!(found.records, [1, 2, 3, 4].map(record));
}

#[test]
fn retries_come_with_growing_pauses() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = on_a_full_disk(dir.path());
    let mut now = Instant::now();
    journal.save(&[record(2)], Vec::new, now);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let next = journal.retry_at().unwrap();
        pauses.push((next - now).as_secs());
        let mut asked = false;
        journal.save(&[record(3)], Vec::new, now);
        now = next;
        let all = || {
            asked = true;
            Vec::new()
        };
        assert!(matches!(journal.save(&[], all, now), Saved::Stale));
        assert!(asked);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
}

#[test]
fn a_file_that_cannot_be_made_smaller_still_grows() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    fs::create_dir(dir.path().join("journal.new")).unwrap();
    journal.compact_at = 0;
    let now = Instant::now();
    let large = journal.save(&[record(1)], Vec::new, now);
    assert!(matches!(large, Saved::Large(_)), "{large:?}");
    // Not at each turn: all there is would be gathered for nothing.
    let next = journal.save(&[record(2)], || panic!("too early"), now);
    assert!(matches!(next, Saved::Written), "{next:?}");
    assert_eq!(journal.retry_at(), None);
    drop(journal);
    let found = Journal::open(dir.path()).unwrap().1;
    assert_eq!(found.records, [record(1), record(2)]);
}

#[test]
fn a_new_file_that_is_not_whole_does_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    // In the way of the rename, after the new file is written.
    journal.path = dir.path().join("not-there/journal");
    fs::create_dir_all(dir.path().join("not-there/journal/x")).unwrap();
    journal.replace(&[record(1)]).unwrap_err();
    assert!(!dir.path().join("not-there/journal.new").exists());
}

#[test]
fn a_damaged_frame_does_not_take_the_others_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    journal.append(&[record(1)]).unwrap();
    let at = usize::try_from(journal.len).unwrap() + FRAME;
    for n in [2, 3] {
        journal.append(&[record(n)]).unwrap();
    }
    drop(journal);
    let file = dir.path().join("journal");
    let mut bytes = fs::read(&file).unwrap();
    bytes[at] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let (journal, found) = Journal::open(dir.path()).unwrap();
    assert_eq!((found.damaged, found.format), (1, Format::Current));
    assert_eq!(found.records, [record(1), record(3)]);
    assert!(journal.stale, "it is to be written anew");
}
