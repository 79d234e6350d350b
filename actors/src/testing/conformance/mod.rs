//! The conformance suite of the store port: named cases, run on every implementation.
//!
//! [`conformance_tests!`](crate::conformance_tests) makes a test of each case, so that their names show.

mod atomic;
mod backup;
mod chains;
mod dedup;
mod definitions;
mod feed;
mod history;
mod listing;
mod messages;
mod names;
mod purge;
mod random;
mod rights;
mod rows;
mod settling;
mod state;
mod timers;
mod work;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::rig::{Check, Rig, StoreFactory};

mod prelude {
    pub(super) use bytes::Bytes;

    pub(super) use crate::{
        ids::{
            Cause, CommandId, EntityId, KEY_MAX_BYTES, KIND_MAX_BYTES, Name, Origin, Position, Timestamp,
            Version,
        },
        store::{
            Activated, Chain, Created, DedupOp, Due, Effect, EffectOp, Entry, FeedFilter, FeedItem, FeedPage,
            History, HistoryPage, Incarnation, ListQuery, Listed, Loaded, OriginRecord, OutMessage, Outcome,
            ROW_MAX_BYTES, Record, RefusedWhy, STATE_MAX_BYTES, StoreError, Timer, TimerOp, Token,
        },
        testing::{
            fixtures::{
                EntryParts, START, answer, chain, command, effect, inbox_item, message, name, name_of,
                state_entry, timer,
            },
            rig::{Check, Owned, Pending, Rig, applied, holds, outcome_of, record, said, same, within},
        },
    };

    /// Every check runs twice: on the store that wrote, and on the same data opened again.
    pub(super) const ROUNDS: [(); 2] = [(), ()];
}

/// One check.
#[derive(Clone, Copy)]
pub struct Case {
    /// Area and sentence.
    pub name: &'static str,
    /// Runs it on an empty store.
    pub run: for<'a> fn(&'a mut Rig) -> BoxFuture<'a, Check>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

/// Hands the list of cases to a macro, after `given`.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ([$($callback:tt)*] $given:expr) => {
        $($callback)*! { $given;
            names {
                a_new_name_gets_a_number_and_keeps_it
                different_names_get_different_numbers
                a_name_never_created_resolves_to_nothing
                resolve_finds_what_create_gave
                an_entity_with_entries_exists_also_after_reopening
                kind_and_key_are_both_part_of_a_name
                a_name_of_the_greatest_length_works
                a_name_that_was_only_looked_at_is_free_after_its_release
                a_number_in_use_is_not_given_again_after_reopening
            }
            rights {
                activation_of_an_unknown_number_is_missing
                a_token_names_its_entity_and_this_boot
                each_activation_raises_the_number
                a_chain_under_an_older_activation_is_fenced
                a_fenced_chain_of_a_wrong_version_is_fenced
                a_released_token_is_fenced
                a_released_entity_may_be_activated_by_another_life
                a_release_lets_earlier_chains_apply
                an_activation_answers_after_earlier_chains_are_settled
                a_token_of_an_older_boot_is_fenced
                at_most_one_of_two_lives_may_write
                releasing_a_stale_token_takes_nothing_back
                releasing_twice_does_no_harm
                an_invented_token_is_fenced
                activating_one_entity_leaves_the_others
                the_boot_rises_with_each_opening
                an_activation_reads_what_the_last_owner_wrote
            }
            chains {
                the_first_entry_is_version_one
                a_gap_is_a_conflict
                a_version_written_twice_is_a_conflict
                a_chain_of_256_entries_applies_whole
                a_chain_in_conflict_applies_none_of_its_entries
                chains_submitted_without_waiting_apply_in_order
                after_a_conflict_the_right_chain_applies
                a_chain_without_entries_is_not_applied
                a_state_of_the_greatest_size_comes_back
                an_entry_larger_than_a_chain_applies_alone
                entities_do_not_disturb_each_other
                the_head_comes_back_whole
                writing_goes_on_after_reopening
            }
            atomic {
                an_atomic_record_applies_all_its_chains
                one_fenced_chain_fences_the_atomic_record
                one_chain_in_conflict_stops_the_atomic_record
                an_atomic_record_takes_a_position_for_each_entry
                two_chains_of_one_entity_are_not_atomic
                an_atomic_record_without_chains_is_not_applied
                an_atomic_record_of_many_entities_applies
                atomic_records_keep_their_place_between_chains
                a_message_moves_atomically_between_entities
            }
            state {
                the_last_state_is_the_checkpoint
                events_without_a_snapshot_come_back_as_the_tail
                a_snapshot_cuts_the_tail
                a_snapshot_may_lie_within_a_chain
                a_snapshot_at_the_last_entry_leaves_no_tail
                an_entry_without_events_counts_as_a_version
                an_empty_state_is_a_state
                an_unknown_entity_loads_nothing
                an_entity_without_entries_loads_nothing
                a_large_snapshot_comes_back
                what_an_entry_carries_comes_back_in_the_tail
            }
            rows {
                a_row_comes_back
                rows_come_ascending_whatever_the_order_written
                a_range_holds_its_start_and_not_its_end
                at_most_the_asked_number_of_rows_comes
                paging_through_rows_loses_none
                a_deleted_row_is_gone
                a_row_deleted_after_reopening_is_gone
                the_last_write_of_a_row_wins
                a_put_and_a_delete_in_one_entry_apply_in_order
                rows_of_neighbours_are_apart
                an_empty_value_is_a_row
                a_row_of_the_greatest_size_comes_back
                rows_of_an_unknown_entity_are_none
            }
            dedup {
                an_answer_comes_back
                a_forgotten_answer_is_gone
                an_answer_remembered_again_is_replaced
                an_answer_replaces_the_one_in_its_place
                answers_of_different_origins_are_apart
                answers_of_different_entities_are_apart
                an_origin_comes_back_as_last_written
                a_dropped_origin_is_gone_and_its_answers_are_not
                answers_of_a_conflicting_chain_are_not_kept
            }
            messages {
                a_message_is_pending_until_consumed
                messages_come_in_the_order_of_their_numbers
                the_receivers_entry_consumes_the_message
                a_fenced_receiver_consumes_nothing
                a_sender_may_take_its_message_back
                done_settles_a_message
                settling_a_message_twice_does_no_harm
                done_needs_no_owner_and_changes_no_version
                a_message_comes_back_whole
                a_message_sent_and_consumed_in_one_entry_is_gone
                the_inbox_keeps_the_order_of_its_commands
                an_inbox_command_is_found_at_its_position
                an_inbox_command_makes_its_entity_durable
                an_entry_consumes_an_inbox_command
                inboxes_of_different_entities_are_apart
                an_inbox_command_changes_no_version
            }
            timers {
                a_timer_is_loaded_and_due
                timers_are_due_in_the_order_of_time
                a_timer_is_due_at_its_time_and_not_before
                paging_through_due_timers_loses_none
                a_cleared_timer_is_gone
                a_moved_timer_is_due_once
                paging_goes_on_after_a_timer_that_is_gone
                timers_of_one_name_in_different_entities_are_apart
                a_timer_id_of_the_greatest_length_works
            }
            work {
                an_effect_is_loaded_until_it_ends
                an_effect_comes_back_whole
                an_effect_started_again_is_the_later_one
                an_effect_ended_in_its_entry_leaves_nothing
                work_names_who_has_messages_inbox_or_effects
                who_has_settled_everything_has_no_work
                paging_through_work_loses_none
            }
            history {
                forever_keeps_every_entry
                history_starts_at_the_asked_version
                at_most_the_asked_number_of_entries_comes
                beyond_the_last_entry_there_is_nothing
                an_unknown_entity_has_no_history
                history_of_neighbours_is_apart
                none_keeps_no_entry_with_a_state
                none_keeps_the_events_that_recovery_needs
                last_keeps_at_least_the_asked_number
                last_keeps_all_while_there_are_fewer
                a_duration_keeps_what_is_younger
                last_trims_older_entries
                a_duration_trims_older_entries
                trimming_never_cuts_the_tail_that_recovery_needs
            }
            listing {
                a_list_is_ordered_by_kind_and_key
                a_list_of_one_kind_holds_no_other
                a_list_of_one_status_holds_no_other
                paging_through_a_list_loses_none
                a_list_shows_the_last_head
                who_has_no_entry_is_not_listed
                an_entity_is_found_by_the_status_it_has_and_by_no_other
                a_status_is_not_a_part_of_another
                paging_through_a_status_loses_none
                a_purged_entity_is_not_found_by_its_status
            }
            feed {
                the_feed_holds_every_entry_of_its_kinds_in_the_order_of_commits
                a_kind_without_a_feed_has_no_place_in_it
                the_feed_of_one_kind_holds_no_other
                the_feed_goes_on_after_what_was_read
                a_reader_has_seen_every_entry_that_will_ever_be_before_it
                what_was_answered_is_in_the_feed
                entries_that_commit_together_stand_side_by_side_in_the_feed
                what_did_not_apply_has_no_place_in_the_feed
                a_purged_entity_leaves_its_places_in_the_feed
                a_backup_holds_the_feed_and_the_index
            }
            definitions {
                a_definition_comes_back
                a_definition_stored_twice_is_one
                a_large_definition_comes_back
            }
            purge {
                a_purge_removes_everything_of_the_entity
                a_purge_leaves_the_others
                a_purge_under_a_stale_token_is_fenced
                a_chain_after_the_purge_is_fenced
                a_purged_entity_cannot_be_activated
                a_purged_name_begins_again_under_another_number
                a_purged_number_is_not_given_again_after_reopening
                a_number_purged_before_its_first_entry_is_not_given_again
                a_purge_keeps_messages_sent_to_the_entity
            }
            settling {
                every_record_is_answered_exactly_once
                completions_come_in_the_order_of_submission
                what_is_answered_can_be_read
                positions_are_dense_from_one
                what_does_not_apply_takes_no_position
                positions_go_on_after_reopening
                the_counters_add_up
                every_submission_is_counted_once
                close_settles_what_was_handed_over
                after_close_records_are_handed_back
                closing_twice_is_closing_once
                a_sound_store_is_not_poisoned
                several_threads_submit_at_once
                what_was_answered_survives_a_crash_amid_writing
            }
            backup {
                a_restored_backup_holds_what_was_stored
                a_backup_does_not_overwrite_unless_forced
                a_damaged_backup_is_refused
                a_backup_amid_writing_is_consistent
            }
            random {
                random_operations_agree_with_the_model
            }
        }
    };
}

macro_rules! table {
    ($given:expr; $($area:ident { $($case:ident)* })*) => {
        &[$($(Case {
            name: concat!(stringify!($area), "::", stringify!($case)),
            run: |rig| Box::pin($area::$case(rig)),
        },)*)*]
    };
}

/// Every case.
pub const CASES: &[Case] = __conformance_cases!([table]());

/// A test of each case in a module `conformance`, each with a factory that the expression makes anew:
/// `conformance_tests!(MyFactory::new());` at the root of a test file.
#[macro_export]
macro_rules! conformance_tests {
    ($factory:expr) => {
        $crate::__conformance_cases! { [$crate::__conformance_test] $factory }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_test {
    ($factory:expr; $($area:ident { $($case:ident)* })*) => {
        mod conformance {
            $(mod $area {
                $(#[test]
                fn $case() {
                    #[allow(unused_imports, reason = "the factory may need no name of the outer module")]
                    use super::super::*;
                    let name = concat!(stringify!($area), "::", stringify!($case));
                    let factory = ::std::sync::Arc::new($factory);
                    if let Err(error) = $crate::testing::conformance::run_named(name, factory) {
                        panic!("{error}");
                    }
                })*
            })*
        }
    };
}

/// Runs one case on a new store.
///
/// # Errors
/// What does not hold.
pub async fn run_case(case: &Case, factory: Arc<dyn StoreFactory>) -> Check {
    let mut rig = Rig::open(factory).await?;
    (case.run)(&mut rig).await
}

/// Runs all cases, one after the other; answers those that fail, each with what does not hold.
pub async fn run(factory: Arc<dyn StoreFactory>) -> Vec<(&'static str, String)> {
    let mut failed = Vec::new();
    for case in CASES {
        if let Err(error) = run_case(case, Arc::clone(&factory)).await {
            failed.push((case.name, error));
        }
    }
    failed
}

/// Runs the case of this name in a runtime of its own.
///
/// # Errors
/// What does not hold, or that there is no such case.
pub fn run_named(name: &str, factory: Arc<dyn StoreFactory>) -> Check {
    let case =
        CASES.iter().find(|case| case.name == name).ok_or_else(|| format!("there is no case {name}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|e| format!("no runtime: {e}"))?;
    runtime.block_on(run_case(case, factory)).map_err(|error| format!("{name}: {error}"))
}
