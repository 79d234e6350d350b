//! The power goes at a sync, under all workloads at once.

use std::sync::Arc;

use stanchion::{
    Builder,
    store::testing::{Cut, FaultyDisk},
};

use crate::{
    agents::builder,
    history::{Draw, History, campaign, seed},
    house::House,
    life::runtime,
    support::small,
};

fn on(disk: &FaultyDisk) -> impl Fn(&Arc<History>) -> Builder {
    let options = small(disk);
    move |history| builder(history).store_options(options.clone())
}

/// One life on a disk that remembers what each sync would have left.
fn lived() -> (House, Vec<Cut>) {
    let disk = FaultyDisk::new();
    let mut house = House::new("memory.redb");
    runtime().block_on(house.live(
        6,
        |history| {
            disk.keep_cuts(history.count());
            on(&disk)(history)
        },
        async |_, _| (),
    ));
    (house, disk.take_cuts())
}

/// What is wrong after the power went at this sync; unsynced writes survive as drawn.
fn faults_after(house: &House, cut: &Cut, mut survives: impl FnMut(usize) -> bool) -> Vec<String> {
    let disk = cut.survivors(&mut survives);
    let known = usize::try_from(cut.marker).unwrap();
    let mut then = house.as_of(known);
    runtime().block_on(then.faults(on(&disk)))
}

#[test]
fn nothing_is_lost_under_all_workloads_whichever_sync_is_the_last() {
    let seed = seed();
    let mut draw = Draw(seed);
    let (house, cuts) = lived();
    assert!(cuts.len() > 60, "{} syncs", cuts.len());
    let step = if campaign() { 1 } else { cuts.len() / 24 };
    let first = draw.below(step as u64) as usize;
    let mut checked = 0;
    for (number, cut) in cuts.iter().enumerate().skip(first).step_by(step) {
        for way in 0..3 {
            if !campaign() && number % 3 != way {
                continue;
            }
            let mut torn = draw.clone();
            let faults = faults_after(&house, cut, |_| way == 1 || (way == 2 && torn.below(2) == 0));
            let kept = ["none", "all", "some"][way];
            assert!(
                faults.is_empty(),
                "STANCHION_SEED={seed}, sync {number}, unsynced writes kept: {kept}: {faults:#?}"
            );
            checked += 1;
        }
        draw.next();
    }
    println!(
        "seed {seed}: {checked} power cuts at {} syncs, {} lines of history",
        cuts.len(),
        house.lines.len()
    );
}

#[test]
fn a_disk_that_forgets_what_it_synced_is_found_under_all_workloads() {
    // Negative control: what a much earlier sync left, against what was acknowledged by the end.
    let (house, cuts) = lived();
    let cut = &cuts[cuts.len() / 2];
    let disk = cut.survivors(|_| false);
    let mut then = house.as_of(house.lines.len());
    let faults = runtime().block_on(then.faults(on(&disk)));
    assert!(!faults.is_empty());
}
