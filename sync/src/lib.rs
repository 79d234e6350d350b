//! The concurrency cores of stanchion, checked with loom.
//!
//! Each is a plain type: no runtime, no actor library, no store, no clock, no `.await`. That is what lets loom
//! run every interleaving of the code that ships. Everything that performs I/O, waits for time or spawns lives
//! in the crates above.
//!
//! | core | what for |
//! |---|---|
//! | [`Gate`] | counts the free places of a mailbox; a [`Permit`] returns its place when dropped; waiters in turn |
//! | [`Doorbell`] | wakes the owner of work that lies elsewhere: once for any number of rings, and never lost |
//! | [`HandOff`] | carries entries, activations and barriers in one order to the one writer thread |
//! | [`ReleaseOrder`] | keeps a reply until the version it speaks of is durable |
//! | [`OwnerSlot`] | says who owns an entity on this node, and keeps former owners from changing that |
//! | [`Probes`] | admits exactly so many callers in one round; a [`Probe`] gives its place back when dropped |
//! | [`Lanes`] | counts calls that need no decision, a thread beside the other; a decision gathers all of them |
//! | [`StripedCounter`] | a sum that many threads add to |
//! | [`Bucket`] | a rate limit in one word: so much at once, so much in a time |
//! | [`Turnstile`] | admits callers in turn, by number and by weight; a [`Pass`] returns both when dropped |
//! | [`Shelf`] | a bounded map whose entries expire: never an entry that is over, never more than the limits |
//! | [`SingleFlight`] | one works on a key, the others get the result; a leader that is dropped hands over |
//! | [`Fences`] | lets the writer tell chains of the present activation from those of former ones |
//!
//! # Loom
//! One command runs every model and every negative control:
//!
//! ```sh
//! CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg stanchion_loom" cargo test -p stanchion-sync --release
//! ```
//!
//! The target directory of its own keeps the flag from rebuilding everything else. A model runs two or three
//! threads of a few operations each, with at most three preemptions (`LOOM_MAX_PREEMPTIONS` overrides). Each
//! has a negative control: the same model with a bug planted in the core, or with the core used wrongly, must
//! fail.
//!
//! | model | what it shows | planted bug that it finds |
//! |---|---|---|
//! | `gate::never_more_permits_than_places` | two senders, one place | look and count in two steps |
//! | `gate::a_returned_place_reaches_the_waiter` | no lost wake-up of a waiter | return without looking for waiters; queue without a second look |
//! | `gate::a_cancelled_waiter_swallows_no_place` | a place given to a dropped waiter goes on | dropped waiter keeps it |
//! | `gate::waiting_and_trying_mixed_leave_no_place_in_use` | waiting, cancelling and the fast path mixed: every place comes back | dropped waiter keeps it |
//! | `gate::close_wakes_every_waiter` | a waiter ends when the gate closes | close wakes nobody |
//! | `gate::close_against_a_return_ends_every_wait` | close, return and wait at once | a place handed to nobody is lost |
//! | `doorbell::no_work_lies_under_a_silent_bell` | two producers, no work left without a wake-up | silence after the drain; silence by a plain store |
//! | `hand_off::every_item_arrives_once_and_in_order` | two producers, per-producer order, no lost wake-up | lock given up between look and sleep |
//! | `hand_off::what_was_accepted_before_close_is_drained` | push against close | closed queue forgets the rest |
//! | `release_order::every_reply_comes_out_once_when_durable` | hold against release | look and queue in two steps |
//! | `release_order::completion_against_death_answers_once` | release against abandon and late hold | abandon keeps the epoch |
//! | `release_order::a_late_completion_leaves_the_next_life_alone` | old completion against new hold | release ignores the epoch |
//! | `owner_slot::one_of_the_racing_claimers_wins` | three claimers | look and take in two steps |
//! | `owner_slot::a_late_vacate_does_not_evict_the_new_owner` | old and new owner | vacate ignores the generation |
//! | `fences::an_activation_is_a_barrier_to_chains_in_flight` | old chains against a new activation, through a hand-off | activation beside the queue |
//! | `fences::a_late_forget_leaves_the_new_activation_alone` | forget against raise | forget ignores the number |
//! | `probes::exactly_the_places_of_a_round_are_given` | three callers, two places | look and count in two steps |
//! | `probes::a_dropped_probe_lets_one_more_in` | a drop against a caller who tries on | dropped probe keeps its place |
//! | `probes::a_late_drop_leaves_the_next_round_alone` | a drop against a new round | give-back ignores the round |
//! | `bucket::callers_at_once_never_get_more_than_the_burst` | three callers, a burst of two, a clock that steps back | look and take in two steps |
//! | `lanes::what_was_counted_comes_out_once` | two callers against a close and an open | close in two steps |
//! | `lanes::a_call_is_not_done_under_another_tag` | done against close and open under another tag | tag ignored |
//! | `lanes::a_decision_under_the_lock_sees_every_call` | three callers, a decision after two | close in two steps |
//! | `turnstile::places_and_weight_are_never_exceeded` | three callers, weight for two | look and count in two steps |
//! | `turnstile::what_a_cancelled_caller_was_given_goes_on` | a return against a cancelled wait, another waits | cancelled caller keeps its place |
//! | `turnstile::a_heavy_caller_that_gives_up_unblocks_the_light_one` | cancel at the head of the queue | leaves without a look at the next; a return that keeps the weight |
//! | `turnstile::a_resize_loses_no_waiter` | smaller limits against returns and a wait | a return that keeps the weight |
//! | `turnstile::the_last_place_is_given_once_whatever_lane_it_lies_in` | two callers by two lanes, one place | a lane that closes in two steps; refusal without a look at the other lanes |
//! | `turnstile::a_place_returned_by_a_lane_reaches_the_waiter` | a return by a lane against a wait | a return to a closed lane |
//! | `shelf::a_fresh_put_is_never_lost_and_what_is_over_never_returned` | get, put and expiry of one key | read without looking; expire in two steps |
//! | `shelf::a_fresh_put_outlives_the_deadline_of_the_old_one` | overwrite against expiry | old deadline left behind |
//! | `shelf::no_more_entries_than_the_limit` | two puts on a full shelf | make room and insert in two steps |
//! | `shelf::an_overwrite_evicts_nobody` | two overwrites on a full shelf | room made before the look |
//! | `shelf::a_value_made_before_a_delete_is_not_held_after_it` | delete while a value is made | reservation ignored |
//! | `single_flight::one_works_and_both_get_the_result` | two join | join in two steps; a landing that wakes nobody |
//! | `single_flight::a_cancelled_leader_hands_over` | leader cancelled, two riders, one cancelled too | hands over to nobody; the appointed leaves silently |

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod bucket;
mod doorbell;
mod fences;
mod gate;
mod hand_off;
mod lanes;
mod owner_slot;
mod padded;
#[doc(hidden)]
#[cfg(stanchion_loom)]
pub mod planted;
#[cfg(not(stanchion_loom))]
mod planted;
mod probes;
mod release_order;
mod shelf;
mod shim;
mod single_flight;
mod striped;
mod turnstile;

pub use bucket::{Bucket, NotYet};
pub use doorbell::Doorbell;
pub use fences::Fences;
pub use gate::{Acquire, Closed, Gate, GateRefusal, Permit, Waiter};
pub use hand_off::{Drain, HandOff, Refused};
pub use lanes::{LaneCounts, Lanes};
pub use owner_slot::{Claim, OwnerSlot, OwnerState};
pub use probes::{Probe, Probes};
pub use release_order::{Epoch, Held, ReleaseOrder};
pub use shelf::{Shed, Shelf, ShelfCounts, ShelfLimits, ShelfRefusal};
pub use single_flight::{Arrival, Lead, Ride, Seat, SingleFlight};
pub use striped::StripedCounter;
pub use turnstile::{Enter, Pass, Turnstile, TurnstileLimits, TurnstileLoad, TurnstileRefusal};

/// Whether this build belongs to loom: the examples, which run outside a model, then stop at once.
#[doc(hidden)]
pub const UNDER_LOOM: bool = cfg!(stanchion_loom);
