"""What is promised, each promise with the tests that hold us to it (``file::test`` under tests/)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise in the words of who relies on it, and its tests."""

    text: str
    tests: tuple[str, ...]


PROMISES = {
    "attempt-before-request": Promise(
        "Nothing that costs is sent before it is written down.",
        (
            "machine/test_journal_faults.py::test_a_job_that_cannot_be_written_is_not_sent",
            "machine/test_journal_faults.py::test_a_request_that_cannot_be_marked_as_sent_does_not_leave",
        ),
    ),
    "received-once": Promise(
        "A start reaches the provider at most once, whatever the network does.",
        (
            "machine/test_outcomes.py::test_a_start_says_what_became_of_it_and_is_received_at_most_once",
        ),
    ),
    "unknown-is-said": Promise(
        "A request whose fate nobody can tell is a job of status `unknown`, never a silent retry.",
        (
            "machine/test_outcomes.py::test_a_lost_answer_is_a_job_in_the_text_and_in_the_structure",
            "machine/test_restart.py::test_an_unknown_job_stays_unknown_after_a_restart",
        ),
    ),
    "cancelled-call": Promise(
        "A host that gives up in the middle of a call loses nothing: the job goes on.",
        (
            "machine/test_cancellation.py::test_a_cancelled_start_goes_on_and_is_paid_once",
            "machine/test_cancellation.py::test_the_same_call_after_a_cancelled_one_gets_its_job_and_pays_nothing_more",
        ),
    ),
    "identical-call": Promise(
        "The same call made again within two minutes returns the job that exists.",
        ("jobs/test_store.py::test_an_identical_call_gets_the_job_that_may_still_serve_it",),
    ),
    "restart": Promise(
        "After a crash or a restart every job goes on where it was; none is sent twice.",
        (
            "machine/test_restart.py::test_a_request_under_way_at_a_kill_is_of_unknown_fate_and_not_sent_again",
            "machine/test_restart.py::test_a_running_job_is_asked_about_again_however_long_the_server_was_away",
        ),
    ),
    "shared-journal": Promise(
        "Servers that share a state folder lose no update and leave each other's jobs alone.",
        (
            "jobs/test_sqlite_shared.py::test_two_processes_lose_no_update",
            "jobs/test_store.py::test_jobs_of_the_living_stay_theirs",
        ),
    ),
    "journal-private": Promise(
        "The journal can be read by its owner only.",
        ("jobs/test_sqlite.py::test_the_journal_is_for_the_person_only",),
    ),
    "bad-disk": Promise(
        "A full disk, a read-only folder or a damaged journal stops the paid call, not the server.",
        (
            "jobs/test_sqlite.py::test_a_full_disk_stops_the_start_before_anything_is_sent",
            "jobs/test_sqlite.py::test_a_damaged_journal_is_refused_and_not_overwritten",
            "machine/test_journal_faults.py::test_a_journal_that_cannot_be_written_at_the_start_leaves_a_server_that_says_so",
        ),
    ),
    "results-saved": Promise(
        "A result is downloaded as soon as it is there, because its address dies.",
        (
            "test_walk.py::test_an_image_is_started_waited_for_and_saved",
            "machine/test_restart.py::test_a_result_that_was_not_downloaded_is_fetched_at_the_next_check",
        ),
    ),
    "schemas-hosts-accept": Promise(
        "No tool has a name or a schema that a host rejects, and none asks for more tokens than "
        "its budget.",
        (
            "test_snapshots.py::test_a_schema_is_closed_and_has_nothing_that_hosts_reject",
            "test_snapshots.py::test_all_tools_together_are_within_their_token_budget",
        ),
    ),
    "interface-stable": Promise(
        "Names, arguments and hints of tools change by decision only.",
        ("test_snapshots.py::test_every_tool_is_as_its_snapshot_says",),
    ),
    "documents-true": Promise(
        "What the documents show is what the program does.",
        (
            "test_documents.py::test_the_made_parts_are_up_to_date",
            "test_documents.py::test_every_command_that_is_shown_is_understood",
        ),
    ),
    "any-folder": Promise(
        "The server starts from any folder, whatever files lie in it.",
        ("test_wheel.py::test_a_host_is_served_from_a_hostile_folder",),
    ),
    "any-package": Promise(
        "A provider may come from any package; the machine knows none by name.",
        (
            "test_adding_a_provider.py::test_an_installed_provider_is_found_by_its_entry_point",
            "test_architecture.py::test_the_machine_never_imports_the_catalogue",
        ),
    ),
}
