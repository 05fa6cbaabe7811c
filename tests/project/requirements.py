"""What is promised, each promise with the tests that hold us to it (``file::test`` under tests/)."""

from __future__ import annotations

from dataclasses import dataclass

from darkroom.core.foreign import MOST_CHARACTERS


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise in the words of who relies on it, and its tests."""

    text: str
    tests: tuple[str, ...]
    against: str | None = None
    """From whom it protects, where that is its point; `docs/security.md` lists those."""


PROMISES = {
    "attempt-before-request": Promise(
        "A request that costs something is written to the journal before it is sent.",
        (
            "engine/test_journal_faults.py::test_a_job_that_cannot_be_written_is_not_sent",
            "engine/test_journal_faults.py::test_a_request_that_cannot_be_marked_as_sent_waits_and_leaves_once_it_can_be",
        ),
    ),
    "task-asks-first": Promise(
        "A task that asks for the person's approval sends nothing before the yes and once after it, "
        "across restarts and between servers; a no, a cancellation or a day without an answer ends "
        "it, and what waits holds no part of a cap.",
        (
            "mcp/tasks/test_asking.py::test_nothing_is_sent_before_the_yes_and_all_is_as_ever_after_it",
            "mcp/tasks/test_asking.py::test_anything_but_a_yes_is_a_no_and_sends_nothing",
            "mcp/tasks/test_asking.py::test_a_task_that_asks_is_cancelled",
            "mcp/tasks/test_asking.py::test_no_answer_within_a_day_is_a_no",
            "mcp/tasks/test_asking.py::test_the_next_process_asks_on_and_sends_once",
            "mcp/tasks/test_asking.py::test_what_asks_reserves_nothing_and_a_cap_counts_at_the_yes",
            "mcp/tasks/test_asking.py::test_a_yes_to_what_the_month_covers_is_no_yes_to_what_is_charged_for",
            "mcp/tasks/test_asking_servers.py::test_servers_that_get_the_same_yes_together_send_it_once",
            "mcp/tasks/test_asking_servers.py::test_of_answers_that_come_together_one_counts_everywhere",
        ),
    ),
    "received-once": Promise(
        "A start reaches the provider at most once, whatever the network does.",
        (
            "engine/test_outcomes.py::test_a_start_says_what_became_of_it_and_is_received_at_most_once",
        ),
    ),
    "unknown-is-said": Promise(
        "If it is not known whether a request was accepted, its job is `unknown`; it is not sent again.",
        (
            "engine/test_outcomes.py::test_a_lost_answer_is_a_job_in_the_text_and_in_the_structure",
            "engine/test_restart.py::test_an_unknown_job_stays_unknown_after_a_restart",
        ),
    ),
    "cancelled-call": Promise(
        "If a host cancels a call, nothing is lost: the job goes on.",
        (
            "engine/test_cancellation.py::test_a_cancelled_start_goes_on_and_is_paid_once",
            "engine/test_cancellation.py::test_the_same_call_after_a_cancelled_one_gets_its_job_and_pays_nothing_more",
        ),
    ),
    "cancel-a-job": Promise(
        "A start that waits is withdrawn at every provider, and cancelled at the provider where that "
        "can do it; the wish is written down first, and carried out after a crash, too.",
        (
            "engine/test_cancel_job.py::test_a_start_that_waits_here_is_withdrawn_at_every_provider",
            "engine/test_cancel_job.py::test_what_is_pending_at_a_provider_that_can_cancel_is_cancelled_there",
            "engine/test_cancel_job.py::test_the_wish_to_cancel_survives_a_kill",
        ),
    ),
    "identical-call": Promise(
        "The same call made again returns the job that exists while it runs or its fate is unknown, "
        "and for two minutes after it completed.",
        (
            "jobs/test_store.py::test_an_identical_call_gets_the_job_that_may_still_serve_it",
            "engine/test_intent_servers.py::test_what_a_killed_server_was_sending_is_not_sent_again_by_one_that_lived_beside_it",
            "engine/test_intent_servers.py::test_a_batch_that_still_runs_is_not_started_again",
        ),
    ),
    "new-key": Promise(
        "The same arguments under a new `idempotency_key` are an identical call, and a start that "
        "repeats a job of unknown fate in other words is asked about before it is sent.",
        (
            "engine/test_intent.py::test_the_same_arguments_under_a_new_key_get_the_job_with_the_warning",
            "engine/test_resemblance.py::test_the_person_is_asked_before_it_is_sent",
        ),
    ),
    "restart": Promise(
        "After a crash or a restart every job goes on where it was; none is sent twice.",
        (
            "engine/test_restart.py::test_a_request_under_way_at_a_kill_is_of_unknown_fate_and_not_sent_again",
            "engine/test_restart.py::test_a_running_job_is_asked_about_again_however_long_the_server_was_away",
        ),
    ),
    "shared-journal": Promise(
        "Servers that share a state folder lose no update and leave each other's jobs alone.",
        (
            "jobs/storage/test_sqlite_shared.py::test_two_processes_lose_no_update",
            "jobs/test_store.py::test_jobs_of_the_living_stay_theirs",
        ),
    ),
    "journal-private": Promise(
        "The journal can be read by its owner only.",
        ("jobs/storage/test_sqlite.py::test_the_journal_is_for_the_person_only",),
        against="another user",
    ),
    "bad-disk": Promise(
        "A full disk, a read-only folder or a damaged journal stops the paid call, not the server.",
        (
            "jobs/storage/test_sqlite.py::test_a_full_disk_stops_the_start_before_anything_is_sent",
            "jobs/storage/test_sqlite.py::test_a_damaged_journal_is_refused_and_not_overwritten",
            "engine/test_journal_faults.py::test_a_journal_that_cannot_be_written_at_the_start_leaves_a_server_that_says_so",
        ),
    ),
    "key-is-intent": Promise(
        "An `idempotency_key` is the same job for as long as the job is kept; with other arguments "
        "it is refused.",
        (
            "engine/test_intent.py::test_a_key_is_the_same_job_however_late_and_whatever_the_job_has_become",
            "engine/test_intent.py::test_a_key_with_other_arguments_is_a_conflict_and_sends_nothing",
        ),
    ),
    "last-breath": Promise(
        "The end of the input, SIGTERM and SIGINT leave no attempt unrecorded.",
        (
            "mcp/test_stdio.py::test_the_end_of_the_input_lets_an_open_attempt_be_recorded_and_answered",
            "mcp/test_stdio.py::test_a_signal_lets_an_open_attempt_be_recorded_and_answered",
        ),
    ),
    "asks-first": Promise(
        "A tool that destroys or reveals something asks the person; without a yes nothing is sent.",
        (
            "engine/test_destroying.py::test_anything_but_a_yes_sends_nothing",
            "engine/test_destroying.py::test_no_answer_within_40_seconds_is_a_no",
            "engine/test_destroying.py::test_a_host_that_cannot_ask_gets_a_refusal_that_names_the_setting",
        ),
        against="a model",
    ),
    "limits-kept": Promise(
        "No more requests or jobs than the provider allows, starts and questions together.",
        (
            "engine/test_pacing.py::test_thirty_images_keep_to_three_at_once_and_twenty_requests_a_minute",
            "engine/test_pacing.py::test_calls_of_a_chat_share_the_rate_with_starts_and_polls",
        ),
    ),
    "no-needless-question": Promise(
        "A provider is asked no earlier than `poll_after_seconds` says, however often it is checked.",
        (
            "engine/test_polling.py::test_nothing_is_asked_before_poll_after_seconds_however_often_it_is_checked",
        ),
    ),
    "wakes-at-once": Promise(
        "A check that waits returns the moment its job ends; a wait that runs out is a result.",
        (
            "engine/test_polling.py::test_a_wait_ends_the_moment_the_job_does",
            "engine/test_polling.py::test_a_wait_that_runs_out_is_a_result_that_says_when_to_look_again",
        ),
    ),
    "mistakes-named": Promise(
        "Every mistake in the arguments is named at once, before anything is sent.",
        (
            "engine/test_generated_arguments.py::test_every_mistake_is_named_at_once_with_the_nearest_name",
            "engine/test_generated_arguments.py::test_generated_arguments_give_a_result_or_a_clean_error",
        ),
    ),
    "errors-translated": Promise(
        "Every documented error has one of our codes, the way out and the provider's own words.",
        (
            "providers/test_documented_errors.py::test_a_documented_error_has_our_code_the_way_out_and_the_providers_words",
        ),
    ),
    "quoted-data": Promise(
        "Text from a provider is quoted, short and cleaned, and never an instruction.",
        ("providers/test_provider_text.py::test_a_refusal_quotes_the_provider_and_no_more",),
        against="a provider",
    ),
    "keys-unseen": Promise(
        "Of a key, only the last four characters are shown.",
        ("cli/test_doctor.py::test_no_key_is_shown_but_its_last_four_characters",),
        against="a model",
    ),
    "protocol-only": Promise(
        "Nothing but the protocol is written to standard output.",
        ("mcp/test_stdio.py::test_what_a_library_prints_does_not_get_into_the_protocol",),
    ),
    "small-answers": Promise(
        "The result of a check costs a model at most 250 tokens.",
        ("results/test_saved_results.py::test_a_check_costs_at_most_250_tokens",),
    ),
    "results-saved": Promise(
        "A result is downloaded as soon as it is ready, because its address expires.",
        (
            "project/test_walk.py::test_an_image_is_started_waited_for_and_saved",
            "engine/test_restart.py::test_a_result_that_was_not_downloaded_is_fetched_at_the_next_check",
        ),
    ),
    "download-told": Promise(
        "A download that failed is told as it is and tried again while the address lives, even one "
        "that the clock calls dead; half a picture is not kept as whole.",
        (
            "results/test_save.py::test_a_download_that_failed_is_told_as_it_is_and_tried_again_by_the_next_call",
            "results/test_save.py::test_an_address_that_a_wrong_clock_calls_dead_is_tried",
            "results/test_download.py::test_half_a_picture_is_not_kept_and_fetched_again",
            "core/test_media_ends.py::test_a_whole_file_is_whole_and_no_part_of_it_is",
        ),
    ),
    "rotated-key": Promise(
        "A rotated key survives a kill; what is left of a rotation, or of a call whose answer was "
        "lost, is told at the start, by `doctor`, and by the error that follows.",
        (
            "engine/test_keys.py::test_a_key_that_was_not_put_in_its_place_is_found_when_the_old_one_is_refused",
            "engine/test_keys.py::test_a_rotation_of_unknown_fate_is_told_at_the_start_and_by_the_error_that_follows",
            "cli/test_doctor.py::test_what_an_earlier_server_left_open_is_a_problem",
        ),
    ),
    "evidence-kept": Promise(
        "A success whose id cannot be used keeps what came as evidence; an id that another job has is "
        "warned of.",
        (
            "engine/test_outcomes.py::test_an_id_that_cannot_be_used_is_kept_as_evidence",
            "engine/test_outcomes.py::test_an_id_that_another_job_has_is_not_taken_in_silence",
        ),
    ),
    "overage-refused": Promise(
        "Without leave for overage, nothing beyond the month's allowance is started, whatever else "
        "uses the account.",
        (
            "engine/test_daily_cap.py::test_a_start_beyond_what_others_have_used_is_refused_before_it_is_charged",
        ),
    ),
    "schemas-hosts-accept": Promise(
        "No tool has a name or a schema that a host rejects, and none asks for more tokens than "
        "its budget.",
        (
            "project/test_snapshots.py::test_a_schema_has_nothing_that_hosts_reject",
            "project/test_snapshots.py::test_all_tools_together_are_within_their_token_budget",
        ),
    ),
    "interface-stable": Promise(
        "Names, arguments and hints of tools change only on purpose.",
        ("project/test_snapshots.py::test_every_tool_is_as_its_snapshot_says",),
    ),
    "documents-true": Promise(
        "The documents show what the program does.",
        (
            "project/test_documents.py::test_the_made_parts_are_up_to_date",
            "project/test_documents.py::test_every_command_that_is_shown_is_understood",
        ),
    ),
    "read-only": Promise(
        "`--read-only` wins over every other setting: nothing that changes or costs is called.",
        (
            "catalogue/test_selection.py::test_read_only_wins_over_everything",
            "catalogue/test_selection.py::test_read_only_wins_over_approval_tasks_and_prompts",
        ),
    ),
    "host-files": Promise(
        "Installing changes one entry of a host's file, keeps what a person put there, shows "
        "nothing of the rest, and writes no key that it was not asked to.",
        (
            "cli/hosts/test_install.py::test_no_key_is_written_or_shown_unless_it_is_asked_for",
            "cli/hosts/test_install.py::test_the_rest_of_a_file_and_its_comments_stay",
            "cli/hosts/test_files.py::test_what_a_person_has_added_to_the_entry_stays",
            "cli/hosts/test_files.py::test_what_stands_beside_the_entry_is_not_shown",
        ),
    ),
    "flat": Promise(
        "However many calls and hosts come and go, memory, open files, threads and tasks stay what "
        "they were.",
        (
            "soak/test_soak.py::test_a_hundred_thousand_calls_over_http_leave_nothing",
            "soak/test_soak.py::test_tens_of_thousands_of_calls_over_a_pipe_leave_nothing",
            "soak/test_soak.py::test_thousands_of_calls_over_http_leave_nothing",
            "mcp/http/test_sessions.py::test_hosts_that_never_say_goodbye_leave_no_more_sessions_than_there_is_room",
        ),
    ),
    "any-folder": Promise(
        "The server starts from any folder, whatever files lie in it.",
        ("project/test_wheel.py::test_a_host_is_served_from_a_hostile_folder",),
    ),
    "token-needed": Promise(
        "Over HTTP only who bears the token is served, under the server's own name, and no foreign "
        "page.",
        (
            "mcp/http/test_gate.py::test_who_bears_the_token_is_served",
            "mcp/http/test_gate.py::test_a_name_that_is_not_ours_is_misdirected",
            "mcp/http/test_gate.py::test_a_foreign_page_is_forbidden",
        ),
        against="a page",
    ),
    "public-only": Promise(
        "A download goes to public addresses only, checked at each connection and redirect.",
        (
            "providers/client/test_fetch.py::test_a_host_with_any_address_that_is_not_public_is_never_dialled",
            "providers/client/test_fetch.py::test_a_forbidden_address_is_refused_directly_and_after_a_redirect",
        ),
        against="a provider",
    ),
    "no-token-no-memory": Promise(
        "Who has no token takes no memory and no descriptors: a request has its time, connections "
        "without a token are bounded, and the server goes on for those who bear it.",
        (
            "mcp/http/test_strangers.py::test_silent_connections_leave_the_server_at_work_and_its_log_short",
            "mcp/http/test_strangers.py::test_a_request_that_does_not_end_is_given_up",
            "mcp/http/test_strangers.py::test_no_token_no_memory",
            "mcp/http/test_strangers.py::test_a_server_whose_engine_cannot_start_ends",
            "mcp/http/test_gate.py::test_a_server_that_is_ending_or_cannot_work_is_not_ready",
        ),
        against="a page",
    ),
    "sandbox-pages": Promise(
        "A served sandbox answers under its own name only, and no foreign page.",
        ("emulators/test_sandbox.py::test_no_foreign_page_plans_faults_in_a_served_sandbox",),
        against="a page",
    ),
    "pictures-apart": Promise(
        "A picture that is made to be slow, to fill the memory or to break its decoder holds up "
        "nobody; it is shown as a card with the reason.",
        (
            "results/test_decoder.py::test_a_picture_that_takes_too_long_is_given_up_and_the_next_is_made",
            "results/test_decoder.py::test_a_picture_that_takes_too_much_memory_is_given_up",
            "results/test_decoder.py::test_a_slow_picture_of_one_call_holds_up_no_other_call",
            "results/test_decoder.py::test_no_decoder_error_is_more_than_a_card_for_its_picture",
        ),
        against="a provider",
    ),
    "private-files": Promise(
        "Manifests, sidecars and results are for the person only, and what another user could have "
        "changed is refused by name.",
        (
            "core/test_private_files.py::test_what_others_can_write_is_refused_by_name",
            "core/test_private_files.py::test_a_link_is_refused_by_name",
            "core/test_private_files.py::test_what_belongs_to_somebody_else_is_refused_by_name",
            "core/test_private_files.py::test_a_file_is_replaced_whole_and_is_private",
            "engine/batches/test_batches.py::test_no_signature_of_an_input_stands_in_a_manifest_or_beside_a_file",
        ),
        against="another user",
    ),
    "team-sign-in": Promise(
        "In a team whoever sends a good token of the issuer is served, and nobody else; a person is "
        "issuer and subject, never a name or an address.",
        (
            "mcp/http/test_sign_in.py::test_a_bad_token_is_refused_and_not_repeated",
            "mcp/http/test_sign_in.py::test_a_key_that_everybody_can_read_signs_nothing",
            "mcp/http/test_sign_in.py::test_an_owner_is_issuer_and_subject_and_nothing_else",
            "mcp/http/test_team_access.py::test_an_issuer_that_is_away_is_no_fault_of_the_token",
            "peers/test_issuer.py::test_a_client_registers_signs_in_and_works",
        ),
        against="another person of the team",
    ),
    "team-isolation": Promise(
        "In a team another person's job is answered as one that does not exist, by every tool, "
        "resource, reference and completion; what belongs to the whole account is for "
        "administrators, and no file of the server is sent or named.",
        (
            "mcp/http/test_isolation.py::test_every_tool_answers_a_foreign_id_as_an_unknown_one",
            "mcp/http/test_isolation.py::test_every_resource_answers_a_foreign_id_as_an_unknown_one",
            "mcp/http/test_isolation.py::test_a_reference_to_a_foreign_job_is_one_to_nothing",
            "mcp/http/test_isolation.py::test_completions_name_only_own_jobs",
            "mcp/http/test_isolation.py::test_what_the_account_shows_or_changes_is_for_administrators",
            "mcp/http/test_isolation.py::test_no_file_of_the_server_is_sent_for_a_person_who_is_elsewhere",
            "mcp/test_subscriptions.py::test_nobody_hears_of_another_persons_job",
            "engine/test_owners.py::test_what_one_owner_starts_another_finds_through_no_method_of_the_engine",
        ),
        against="another person of the team",
    ),
    "team-links": Promise(
        "A link to a result opens that one file for ten minutes, and nothing else.",
        (
            "mcp/http/test_isolation.py::test_a_link_shows_its_file_to_whoever_has_it_and_ends",
            "mcp/http/test_isolation.py::test_a_link_opens_nothing_else",
        ),
        against="another person of the team",
    ),
    "inputs": Promise(
        "Of the person's files only pictures and videos in the allowed folders leave, without where "
        "they were taken; what cannot be used is refused before anything is sent, and what went into "
        "a bucket is taken out of it again.",
        (
            "inputs/test_bad_files.py::test_a_file_that_cannot_be_used_is_refused_before_anything_is_sent",
            "inputs/test_files_on_their_way.py::test_a_picture_leaves_upright_and_without_its_place",
            "inputs/test_files_on_their_way.py::test_two_starts_share_an_upload_and_the_last_one_to_end_deletes_it",
            "inputs/test_files_on_their_way.py::test_killed_at_every_step_nothing_is_paid_twice_and_nothing_is_left_in_the_bucket",
        ),
        against="a model",
    ),
    "settling-asks": Promise(
        "`resolve_job` asks the person and says what it frees; where nobody can be asked it is "
        "refused.",
        (
            "engine/test_settling_asks.py::test_the_question_says_job_cost_and_what_not_submitted_frees",
            "engine/test_settling_asks.py::test_a_no_settles_nothing_and_frees_nothing",
            "engine/test_settling_asks.py::test_where_nobody_can_be_asked_it_is_refused_with_the_setting_that_allows_it",
        ),
        against="a model",
    ),
    "handed-on-bounded": Promise(
        f"What a getter or a list hands on has at most {MOST_CHARACTERS:,} characters, no "
        "character that shows nothing, and no address that opens something; what is missing is named.",
        (
            "core/test_foreign.py::test_whatever_is_said_what_is_shown_is_bounded_and_tame",
            "core/test_foreign.py::test_a_hidden_character_goes_from_texts_and_from_names",
            "providers/test_provider_text.py::test_a_full_list_of_tryons_has_no_address_and_costs_few_tokens",
        ),
        against="a provider",
    ),
    "quoted-last": Promise(
        "A provider's words stand last in an error, quoted as JSON, and codes and request ids are "
        "identifiers: none of it can be read as our words.",
        (
            "core/test_foreign.py::test_a_quotation_stands_last_and_cannot_end_itself",
            "core/test_foreign.py::test_what_could_be_read_as_words_is_no_identifier",
        ),
        against="a provider",
    ),
    "key-repeated": Promise(
        "A key that an answer repeats is taken out of it, however it is spelled there.",
        ("core/test_redaction.py::test_a_key_is_taken_out_after_decoding",),
        against="a provider",
    ),
    "bounded-work": Promise(
        "The work that an answer makes is bounded by what was asked: values, results, downloads.",
        (
            "core/test_redaction.py::test_an_answer_of_too_many_values_is_not_read",
            "tools/test_zyng.py::test_the_work_of_matching_is_bounded_by_what_was_asked",
            "tools/test_zyng.py::test_a_rid_that_was_started_elsewhere_keeps_no_more_than_is_expected",
            "results/test_download.py::test_a_job_of_one_request_has_a_bounded_number_of_outputs",
            "results/test_download.py::test_the_files_of_a_job_together_have_a_bounded_size",
        ),
        against="a provider",
    ),
    "terminal": Promise(
        "A terminal gets nothing from the command that it would obey.",
        (
            "core/test_foreign.py::test_a_terminal_gets_nothing_that_it_would_obey",
            "cli/test_call.py::test_a_terminal_obeys_neither_the_provider_nor_the_caller",
        ),
        against="a provider or a model",
    ),
    "question-is-ours": Promise(
        "The question that a person answers is in our words: a caller's sentence in place of a "
        "name is refused, and nobody is asked.",
        (
            "engine/test_questions.py::test_a_sentence_in_place_of_a_name_is_refused_and_nobody_is_asked",
            "engine/test_questions.py::test_publishing_says_what_is_published",
        ),
        against="a model",
    ),
    "yes-binds": Promise(
        "A yes to a batch is for what it sends: a second stage is counted by the outputs of the "
        "first, and what goes beyond it is not sent before the person was asked anew. A retry "
        "counts on its own day.",
        (
            "engine/batches/test_growing.py::test_the_question_counts_an_edit_for_every_image_of_the_first_stage",
            "engine/batches/test_growing.py::test_outputs_beyond_what_was_approved_are_not_followed_up",
            "engine/batches/test_growing.py::test_a_retry_asks_anew_for_outputs_beyond_what_was_approved",
            "engine/batches/test_growing.py::test_a_yes_to_a_batch_is_none_to_what_it_did_not_say",
            "engine/batches/test_changing.py::test_a_retry_counts_on_the_day_on_which_it_runs",
        ),
        against="a model",
    ),
    "unasked-adds-up": Promise(
        "What is spent without asking the person adds up for each day, also over calls side by "
        "side and batches, and beyond the configured amount the person is asked.",
        (
            "engine/test_approval.py::test_the_person_is_asked_when_too_much_would_pass_unasked_on_a_day",
            "engine/test_approval.py::test_starts_side_by_side_do_not_pass_the_day_unasked",
            "engine/test_approval.py::test_what_the_person_said_yes_to_does_not_count_as_unasked",
        ),
        against="a model",
    ),
    "no-overwrite": Promise(
        "A file of the person's is replaced only after a yes, and a kept file never.",
        (
            "results/test_save.py::test_a_file_of_the_persons_is_replaced_only_after_a_yes",
            "results/test_save.py::test_a_kept_file_of_another_job_is_never_replaced",
        ),
        against="a model",
    ),
    "outward": Promise(
        "Results go out only to hosts and storages that the configuration names.",
        (
            "engine/test_outward.py::test_a_target_that_is_not_configured_is_refused_before_anything_is_sent",
        ),
        against="a model",
    ),
    "every-text-judged": Promise(
        "With a policy every free text of a start is judged; those that are not are excused by name.",
        (
            "engine/test_policy_gate.py::test_the_policy_judges_every_free_text_or_the_text_is_excused_by_name",
            "engine/test_policy_gate.py::test_what_must_be_sent_as_it_is_is_judged_and_never_sent_against_the_policy",
        ),
        against="a model",
    ),
    "no-amplification": Promise(
        "A small call makes no large journal and no large manifest, and what is too large is "
        "refused before it is looked at.",
        (
            "engine/batches/test_amplification.py::test_a_large_argument_that_jobs_share_stands_once_in_the_manifest",
            "engine/batches/test_amplification.py::test_a_call_whose_jobs_would_be_too_large_is_refused_before_they_are_looked_at",
            "engine/batches/test_amplification.py::test_a_call_that_makes_too_many_jobs_is_refused_before_they_are_looked_at",
            "engine/batches/test_grammar.py::test_an_object_that_many_items_share_is_counted_for_each",
        ),
        against="a model",
    ),
    "text-and-numbers": Promise(
        "Text and numbers of a provider that could be written nowhere end no session, and a cost "
        "that cannot be right is not counted.",
        (
            "engine/test_unwritable.py::test_an_object_that_is_handed_on_can_be_written",
            "engine/test_unwritable.py::test_an_old_row_with_text_that_cannot_be_written_opens_lists_and_changes",
            "engine/test_unwritable.py::test_a_cost_that_cannot_be_right_is_not_counted_and_a_warning_says_so",
        ),
        against="a provider",
    ),
    "readers-fuzzed": Promise(
        "Every reader of a provider's answers understands what comes, or says that it cannot, "
        "whatever comes; a new module's readers are found by themselves.",
        (
            "fuzz/test_readers.py::test_a_reader_understands_any_answer_or_says_that_it_cannot",
            "fuzz/test_readers.py::test_a_reader_has_seeds_of_which_it_understands_one",
            "fuzz/test_readers.py::test_a_readers_fault_is_found_in_a_module_that_nobody_has_named",
        ),
        against="a provider",
    ),
    "looks-go-on": Promise(
        "If a poll of a paid job fails, for whatever reason, it is repeated.",
        (
            "engine/test_unwritable.py::test_a_look_that_fails_is_repeated_at_growing_distance_with_a_warning",
            "engine/test_unwritable.py::test_one_poisoned_row_of_a_list_holds_up_no_other",
        ),
    ),
    "accepted-and-unseen": Promise(
        "What a provider accepted and did not show is not failed: results under other names are "
        "handed out, and what did not come is looked for again and never paid for twice.",
        (
            "tools/test_zyng_names.py::test_results_under_derived_names_complete_the_job_that_opened_the_request",
            "tools/test_zyng_names.py::test_what_was_accepted_and_did_not_come_is_unknown_never_run_again_and_looked_at_again",
        ),
    ),
    "any-package": Promise(
        "A provider may come from any package; the server knows none by name.",
        (
            "project/test_adding_a_provider.py::test_an_installed_provider_is_found_by_its_entry_point",
            "project/test_checks.py::test_imports_go_one_way",
        ),
    ),
    "ledger-forgets": Promise(
        "What was spent is forgotten once no cap, allowance or job needs it, and `get_spending` says "
        "from when on it knows.",
        (
            "jobs/test_retention.py::test_the_ledger_forgets_with_the_jobs_and_says_since_when_it_knows",
            "jobs/test_retention.py::test_keeping_jobs_for_a_day_loosens_no_cap_and_no_allowance_of_the_month",
            "jobs/test_store.py::test_an_entry_is_forgotten_once_it_counts_nowhere",
        ),
    ),
    "quota-said": Promise(
        "Before a yes the person reads that a start waits for the provider's next day or is charged "
        "for beyond its month; a start that would be refused asks nobody.",
        (
            "jobs/test_quota.py::test_a_start_that_would_wait_for_tomorrow_is_said_so_before_the_yes",
            "jobs/test_quota.py::test_a_start_beyond_the_month_that_is_charged_for_is_said_so_before_the_yes",
            "jobs/test_quota.py::test_a_start_beyond_the_month_is_refused_before_anybody_is_asked",
            "jobs/test_quota.py::test_a_batch_is_said_what_it_meets_before_the_yes",
        ),
    ),
    "batch-limits": Promise(
        "A batch keeps to the providers' limits together with single calls and other servers, and "
        "loses and doubles nothing when a provider refuses for a time.",
        (
            "engine/batches/test_limits.py::test_too_many_requests_slow_a_batch_down_and_lose_nothing",
            "engine/batches/test_limits.py::test_two_batches_share_a_provider_evenly",
            "engine/batches/test_processes.py::test_two_servers_answer_for_one_batch_and_keep_the_rate_together",
        ),
    ),
    "hold-shared": Promise(
        "A pause that a provider asks one server for holds every server with the same key, and ends "
        "by itself, also when the one that was told is dead.",
        (
            "engine/batches/test_processes.py::test_a_429_that_one_server_meets_holds_the_other_too",
            "engine/batches/test_processes.py::test_a_dead_servers_hold_ends_when_it_said",
            "providers/client/test_shared_limits.py::test_a_hold_does_not_outlive_its_time_when_its_process_dies",
        ),
    ),
    "account": Promise(
        "What a provider says of the account is believed once for each key: lower limits are kept "
        "to, and after a refusal of the account the rest waits and goes on when it is well.",
        (
            "engine/test_account.py::test_a_slower_account_that_says_so_is_met_with_few_refusals",
            "engine/test_account.py::test_after_the_first_refusal_of_an_account_the_rest_waits_and_goes_on_when_it_is_well",
        ),
    ),
    "suspension": Promise(
        "A key that a provider would suspend for rejected prompts is not driven into it.",
        (
            "engine/test_suspension.py::test_of_25_unsafe_and_15_good_prompts_the_key_lives_and_the_good_ones_are_made",
        ),
    ),
    "batch-policy": Promise(
        "A batch under the policy gate evaluates each distinct prompt once, side by side within the "
        "policy provider's limits; what it leads to does not depend on which answer comes first.",
        (
            "engine/batches/test_guarded.py::test_a_thousand_distinct_prompts_are_evaluated_well_within_a_call",
            "engine/batches/test_guarded.py::test_what_a_batch_leads_to_does_not_depend_on_which_answer_comes_first",
            "engine/batches/test_guarded.py::test_more_prompts_than_the_rate_leaves_time_for_are_refused_before_any_is_evaluated",
        ),
        against="a model",
    ),
    "batch-goes-on": Promise(
        "A batch goes on after a crash, and its manifest is complete at every moment.",
        (
            "engine/batches/test_processes.py::test_a_killed_server_s_batch_is_finished_by_the_next",
            "engine/batches/test_processes.py::test_a_server_takes_over_the_batch_of_one_that_was_killed_beside_it",
            "engine/batches/test_limits.py::test_the_manifest_is_whole_at_every_moment",
        ),
    ),
    "batch-retry": Promise(
        "`retry_batch` spends no more than the caps allow, and never runs an unknown again.",
        (
            "engine/batches/test_changing.py::test_a_retry_is_paid_for_again_and_passes_no_cap",
            "engine/batches/test_batches.py::test_an_unknown_item_is_never_retried",
        ),
    ),
    "journal-away": Promise(
        "A journal or a key that is away for a time fails no job: what waits is sent once that is "
        "possible again, and a journal that vanished under a running server stops it from sending.",
        (
            "engine/test_journal_faults.py::test_jobs_that_wait_for_their_turn_outlive_a_full_disk",
            "engine/test_journal_faults.py::test_a_key_file_that_is_empty_for_a_moment_fails_no_waiting_job",
            "engine/test_journal_faults.py::test_a_journal_that_cannot_be_opened_at_the_start_is_tried_again",
            "engine/test_company.py::test_a_journal_that_vanished_under_a_running_server_is_noticed_before_a_request_leaves",
        ),
    ),
    "booked-when-sent": Promise(
        "A payment is booked on the day of its sending, and a month's allowance is decided in one "
        "transaction, however many servers send.",
        (
            "engine/test_booking.py::test_a_start_that_waited_waits_on_where_its_day_has_no_room_any_more",
            "engine/test_booking.py::test_a_retry_takes_from_the_cap_of_the_day_of_the_retry",
            "engine/test_booking.py::test_a_new_run_and_what_the_old_one_cost_are_one_write",
            "engine/test_booking.py::test_a_months_allowance_is_not_passed_by_many_servers_at_once",
        ),
    ),
    "our-conclusion": Promise(
        "An end that we concluded, and the provider did not tell, stays open: a check asks once "
        "more, at a bounded rate, and nothing is paid for again.",
        (
            "engine/test_concluded.py::test_a_job_that_a_replica_did_not_know_comes_back_when_it_is_checked_later",
            "engine/test_concluded.py::test_however_often_it_is_checked_the_provider_is_asked_at_a_bounded_rate",
            "engine/test_concluded.py::test_an_image_that_comes_after_the_deadline_is_handed_out_by_a_later_check",
        ),
    ),
    "one-yes": Promise(
        "One yes of the person is for one act, however often the answered call comes.",
        (
            "engine/test_destroying.py::test_one_answer_is_for_one_act_however_often_the_call_is_repeated",
        ),
    ),
    "clock-jumps": Promise(
        "A clock that is weeks ahead for one start erases nothing.",
        ("engine/test_company.py::test_a_clock_that_is_ahead_for_one_start_erases_nothing",),
    ),
    "neighbours": Promise(
        "What waits at a server that dies is sent by another one within a minute.",
        (
            "engine/test_company.py::test_what_waits_at_a_server_that_dies_is_sent_by_its_neighbour_within_a_minute",
        ),
    ),
}
