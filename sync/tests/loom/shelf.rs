use crate::check::{finds, model};
use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::thread;
use stanchion_sync::planted::Bug;
use stanchion_sync::{Shelf, ShelfLimits};
use std::sync::Arc;

/// Values say until when they are fresh.
type Deadlines = Arc<Shelf<u8, i64>>;

fn shelf(entries: usize) -> Deadlines {
    Arc::new(Shelf::new(ShelfLimits { entries, weight: u64::MAX }))
}

fn put(shelf: &Deadlines, key: u8, now: i64, ttl: u64) {
    shelf.put(key, Arc::new(now + ttl as i64), 1, ttl, now).0.unwrap();
}

fn get(shelf: &Deadlines, key: u8, now: i64) -> Option<i64> {
    let value = shelf.get(&key, now).0.map(|value| *value);
    assert!(value.is_none_or(|deadline| now < deadline), "what is over is not returned");
    value
}

/// An entry that is over by 5 is replaced at 5, read at 5, and expired at 5, all at once.
fn get_put_and_expire() {
    let shelf = shelf(2);
    put(&shelf, 1, 0, 5);
    let reader = {
        let shelf = Arc::clone(&shelf);
        thread::spawn(move || get(&shelf, 1, 5))
    };
    let cleaner = {
        let shelf = Arc::clone(&shelf);
        thread::spawn(move || shelf.cleanup(5))
    };
    put(&shelf, 1, 5, 10);
    assert_eq!(get(&shelf, 1, 6), Some(15), "a fresh put is there");
    reader.join().unwrap();
    cleaner.join().unwrap();
    assert_eq!(get(&shelf, 1, 6), Some(15), "a fresh put is there");
}

#[test]
fn a_fresh_put_is_never_lost_and_what_is_over_never_returned() {
    model(get_put_and_expire);
}

#[test]
fn a_fresh_put_is_never_lost_and_what_is_over_never_returned_finds_a_read_without_a_look() {
    finds(Bug::ShelfReadsWithoutLooking, "what is over is not returned", get_put_and_expire);
}

#[test]
fn a_fresh_put_is_never_lost_and_what_is_over_never_returned_finds_an_expiry_in_two_steps() {
    finds(Bug::ShelfExpiresInTwoSteps, "a fresh put is there", get_put_and_expire);
}

/// A fresh entry is overwritten, and its old deadline passes.
fn overwrite_outlives_the_old_deadline() {
    let shelf = shelf(2);
    put(&shelf, 1, 0, 5);
    let cleaner = {
        let shelf = Arc::clone(&shelf);
        thread::spawn(move || shelf.cleanup(5))
    };
    put(&shelf, 1, 1, 10);
    cleaner.join().unwrap();
    shelf.cleanup(5);
    assert_eq!(get(&shelf, 1, 6), Some(11), "a fresh put is there");
}

#[test]
fn a_fresh_put_outlives_the_deadline_of_the_old_one() {
    model(overwrite_outlives_the_old_deadline);
}

#[test]
fn a_fresh_put_outlives_the_deadline_of_the_old_one_finds_a_deadline_left_behind() {
    finds(Bug::ShelfKeepsOldDeadline, "a fresh put is there", overwrite_outlives_the_old_deadline);
}

/// A full shelf: one overwrites, another puts a new key, a third looks at the size.
fn put_and_overwrite_when_full() {
    let shelf = shelf(2);
    put(&shelf, 1, 0, 9);
    put(&shelf, 2, 0, 9);
    let putter = {
        let shelf = Arc::clone(&shelf);
        thread::spawn(move || put(&shelf, 3, 1, 9))
    };
    let watcher = {
        let shelf = Arc::clone(&shelf);
        thread::spawn(move || assert!(shelf.counts().0 <= 2, "no more than the limit"))
    };
    put(&shelf, 4, 1, 9);
    putter.join().unwrap();
    watcher.join().unwrap();
    let (entries, _, counts) = shelf.counts();
    assert!(entries <= 2, "no more than the limit");
    assert_eq!(counts.puts, counts.evictions + entries as u64, "counts add up");
}

#[test]
fn no_more_entries_than_the_limit() {
    model(put_and_overwrite_when_full);
}

#[test]
fn no_more_entries_than_the_limit_finds_a_put_in_two_steps() {
    finds(Bug::ShelfCountsInTwoSteps, "no more than the limit", put_and_overwrite_when_full);
}

/// Two of the three keys of a full shelf are overwritten at once: all three are there.
fn overwrites_when_full() {
    let shelf = shelf(3);
    (0..3).for_each(|key| put(&shelf, key, 0, 9));
    let other = {
        let shelf = Arc::clone(&shelf);
        thread::spawn(move || put(&shelf, 1, 1, 9))
    };
    put(&shelf, 2, 1, 9);
    other.join().unwrap();
    let held = [0, 1, 2].map(|key| get(&shelf, key, 2));
    assert_eq!(held, [Some(9), Some(10), Some(10)], "an overwrite evicts nobody");
}

#[test]
fn an_overwrite_evicts_nobody() {
    model(overwrites_when_full);
}

#[test]
fn an_overwrite_evicts_nobody_finds_room_made_before_the_look() {
    finds(Bug::ShelfOverwriteEvicts, "an overwrite evicts nobody", overwrites_when_full);
}

/// A value is being made while its key is deleted: what was made from before the delete is not there after it.
fn delete_while_a_value_is_made() {
    let shelf = shelf(2);
    let source = Arc::new(AtomicUsize::new(1));
    let maker = {
        let (shelf, source) = (Arc::clone(&shelf), Arc::clone(&source));
        thread::spawn(move || {
            let mark = shelf.reserve(1);
            let made = Arc::new(source.load(SeqCst) as i64);
            shelf.put_reserved((1, mark), made, 1, 9, 0).0.unwrap();
        })
    };
    source.store(2, SeqCst);
    shelf.delete(&1, 0);
    maker.join().unwrap();
    let held = shelf.get(&1, 0).0.map(|value| *value);
    assert!(held.is_none_or(|value| value == 2), "what was made before the delete is gone");
}

#[test]
fn a_value_made_before_a_delete_is_not_held_after_it() {
    model(delete_while_a_value_is_made);
}

#[test]
fn a_value_made_before_a_delete_is_not_held_after_it_finds_a_reservation_ignored() {
    finds(
        Bug::ShelfIgnoresReservation,
        "what was made before the delete is gone",
        delete_while_a_value_is_made,
    );
}
