//! Names against a model that keeps every owning for ever.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    tests::{key, space},
    *,
};
use crate::ids::Timestamp;

const NOW: Timestamp = Timestamp(0);
const SPACES: [&str; 2] = ["bank", "shop"];

#[derive(Clone, Copy, Debug)]
enum Op {
    Register {
        space: usize,
        name: u8,
        respawn: u8,
    },
    /// Ends the owning with this number, counted from the latest.
    End {
        back: usize,
        crashed: bool,
    },
    Respawned {
        back: usize,
    },
    Unregister {
        back: usize,
    },
    Drop {
        space: usize,
    },
    Restart,
    Rehash {
        shards: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let back = || 0..8_usize;
    prop_oneof![
        8 => (0..2_usize, 0..5_u8, 0..3_u8).prop_map(|(space, name, respawn)| Op::Register { space, name, respawn }),
        6 => (back(), any::<bool>()).prop_map(|(back, crashed)| Op::End { back, crashed }),
        6 => back().prop_map(|back| Op::Respawned { back }),
        2 => back().prop_map(|back| Op::Unregister { back }),
        1 => (0..2_usize).prop_map(|space| Op::Drop { space }),
        1 => Just(Op::Restart),
        1 => (1..9_usize).prop_map(|shards| Op::Rehash { shards }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Live,
    Awaited,
    Over,
}

/// Every owning there ever was, with the reference that was given out for it.
#[derive(Default)]
struct Model {
    ownings: Vec<(NameRef, Respawn, Life)>,
}

impl Model {
    fn is_taken(&self, key: &NameKey) -> bool {
        self.ownings.iter().any(|(reference, _, life)| reference.key == *key && *life != Life::Over)
    }

    fn end(&mut self, at: usize, exit: Exit) -> bool {
        let (_, respawn, life) = &mut self.ownings[at];
        *life = Life::Over;
        match respawn {
            Respawn::Permanent => true,
            Respawn::Transient => exit == Exit::Crashed,
            Respawn::Temporary => false,
        }
    }
}

/// Runs the operations on both; the first difference. `is_epoch_blind` plants a model that forgets whose reference it
/// is.
fn compare(ops: &[Op], is_epoch_blind: bool) -> Result<(), String> {
    let (mut table, mut model) = (NameTable::new(3).unwrap(), Model::default());
    for (number, op) in ops.iter().enumerate() {
        let differs = |what: String| Err(format!("operation {number}, {op:?}: {what}"));
        let known = model.ownings.len();
        match *op {
            Op::Register { space, name, respawn } => {
                let key = key(SPACES[space], &format!("n{name}"));
                let respawn = [Respawn::Permanent, Respawn::Transient, Respawn::Temporary][respawn as usize];
                let spec = NameSpec { respawn, ..NameSpec::of_kind("kind") };
                let answer = table.register(key.clone(), spec, "actor".into(), NOW);
                if answer.is_ok() == model.is_taken(&key) {
                    return differs(format!("{answer:?}"));
                }
                if let Ok(reference) = answer {
                    model.ownings.push((reference, respawn, Life::Live));
                }
            }
            Op::End { back, crashed } if back < known => {
                let at = known - 1 - back;
                let (reference, respawn, life) = model.ownings[at].clone();
                let exit = if crashed { Exit::Crashed } else { Exit::Normal };
                let answer = table.ended(&reference.key.namespace().clone(), &reference, exit, NOW);
                let respawns = life == Life::Live && model.end(at, exit);
                match answer {
                    Ok(AfterEnd::Respawn(next)) if respawns => {
                        model.ownings.push((next, respawn, Life::Awaited));
                    }
                    Ok(AfterEnd::Free) if life == Life::Live && !respawns => {}
                    Err(_) if life != Life::Live => {}
                    other => return differs(format!("{other:?}")),
                }
            }
            Op::Respawned { back } if back < known => {
                let (reference, _, life) = &mut model.ownings[known - 1 - back];
                let answer =
                    table.respawned(&reference.key.namespace().clone(), reference, "actor".into(), NOW);
                if answer.is_ok() != (*life == Life::Awaited) {
                    return differs(format!("{answer:?}"));
                }
                if answer.is_ok() {
                    *life = Life::Live;
                }
            }
            Op::Unregister { back } if back < known => {
                let (reference, _, life) = &mut model.ownings[known - 1 - back];
                let answer = table.unregister(&reference.key.namespace().clone(), reference);
                if answer.is_ok() != (*life != Life::Over) {
                    return differs(format!("{answer:?}"));
                }
                *life = Life::Over;
            }
            Op::End { .. } | Op::Respawned { .. } | Op::Unregister { .. } => {}
            Op::Drop { space: at } => {
                let mut expected = BTreeMap::new();
                for (reference, _, life) in &mut model.ownings {
                    if reference.key.namespace().as_str() == SPACES[at] && *life != Life::Over {
                        expected.insert(reference.clone(), *life == Life::Live);
                        *life = Life::Over;
                    }
                }
                let stopped = table.drop_namespace(&space(SPACES[at]));
                let stopped = stopped.into_iter().map(|one| (one.reference, one.owner.is_some())).collect();
                if expected != stopped {
                    return differs(format!("stops {stopped:?}, the model {expected:?}"));
                }
            }
            Op::Restart => {
                let stored = rmp_serde::to_vec_named(&table.snapshot()).unwrap();
                table = NameTable::restore(3, rmp_serde::from_slice(&stored).unwrap()).unwrap();
                let mut expected: Vec<NameKey> = Vec::new();
                for at in 0..known {
                    let (reference, _, life) = model.ownings[at].clone();
                    let awaited =
                        life == Life::Awaited || (life == Life::Live && model.end(at, Exit::Crashed));
                    expected.extend(awaited.then_some(reference.key));
                }
                expected.sort();
                let recovered = table.recover(NOW);
                let keys: Vec<_> = recovered.iter().map(|(reference, _)| reference.key.clone()).collect();
                if keys != expected {
                    return differs(format!("starts {keys:?} anew, the model {expected:?}"));
                }
                for (reference, spec) in recovered {
                    if !model
                        .ownings
                        .iter()
                        .any(|(known, _, life)| *known == reference && *life == Life::Awaited)
                    {
                        model.ownings.push((reference, spec.respawn, Life::Awaited));
                    }
                }
            }
            Op::Rehash { shards } => table = table.rehash(shards).unwrap(),
        }
        for (reference, _, life) in &model.ownings {
            let is_live = *life == Life::Live || (is_epoch_blind && model.is_taken(&reference.key));
            if table.resolve(&reference.key.namespace().clone(), reference).is_ok() != is_live {
                return differs(format!("{reference:?} should {}resolve", if is_live { "" } else { "not " }));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn names_do_what_their_model_does(ops in prop::collection::vec(op(), 0..80)) {
        prop_assert_eq!(compare(&ops, false), Ok(()));
    }
}

#[test]
fn a_model_that_takes_references_of_earlier_epochs_is_found() {
    let register = Op::Register { space: 0, name: 0, respawn: 2 };
    let ops = [register, Op::End { back: 0, crashed: true }, register];
    assert_eq!(compare(&ops, false), Ok(()));
    assert!(compare(&ops, true).is_err());
}
